"""Settings of BDHS, in the order in which Algorithm 1 needs them."""

import re
from dataclasses import dataclass, field
from typing import Any

from .modes import MODES
from .noise import MAX_STEPS, TO_8_BITS


POSITIONS = ("collapsed", "original")
CACHES = ("dynamic", "static")
SPEED = ("cache_implementation", "compile_generation")  # settings that change how fast answers come, not which
NOISE_RANGES = tuple(TO_8_BITS)
# ISO 639-1. The splitter takes any text for a language, and splits an unknown one as English
LANGUAGES = set(
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee "
    "el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is "
    "it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms "
    "mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk "
    "sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi "
    "yo za zh zu".split()
)


def setting(default: Any, help: str, **metadata: Any) -> Any:
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class BDHSConfig:
    """
    Settings of Bias-Driven Hallucination Sampling (arXiv 2407.02477, Section 4 and Algorithm 1).

    Args:
        mode (`str`, *optional*, defaults to `"attention"`):
            What keeps the model from seeing the image. `"attention"` hides image tokens. `"noise"` shows all tokens of
            an image under diffusion noise. `"povid"` is the distortion of POVID, the baseline of the paper: under the
            noisy image, each token of the rejected answer is the most likely one after the chosen answer's own tokens
            before it. That is one forward pass, so there are no sentences, no attempts and no gate: only
            `noise_steps`, `noise_range`, `similarity`, `seed` and the size of batches matter. During training
            ([`BDHSDataGenerator`] with `online=True`) these tokens are scored where they were predicted, after the
            chosen answer's own, as in the published loss. Pairs on disk hold them as a text, which is another
            objective: its tokens are scored after one another. Only LLaVA models can hide image tokens; the other
            modes work for any model.
        guided (`bool`, *optional*, defaults to `True`):
            Whether sentences of the chosen answer, cut at random, guide the rejected one (eq. 7). `False` has the
            model write a full answer in every attempt; the settings of sentences and cuts then do not matter.
        mask_threshold (`float`, *optional*, defaults to `0.99`):
            With `mode="attention"`, share of image tokens hidden from the model; ρ_th in the paper (eq. 6). 0.0 hides
            nothing, 1.0 everything.
            LLaVA-1.6 has 1,176 to 2,928 image tokens; a model with few needs a lower value. Tune it by the share of
            answers that must be made again.
        noise_steps (`int`, *optional*, defaults to `500`):
            With `mode="noise"` or `"povid"`, steps of diffusion noise on the image, 1 to 1,000; N in the paper.
        noise_range (`str`, *optional*, defaults to `"povid"`):
            What becomes of noisy values beyond black and white. `"povid"` wraps them around, as in the implementation
            that the paper follows: after 500 steps nothing of the image is left. `"clamped"` stops them at black and
            white, which leaves much of it, and more where a processor shrinks a large image.
        positions (`str`, *optional*, defaults to `"collapsed"`):
            With `mode="attention"`, positions of what stays visible: `"collapsed"` closes the gaps that hidden tokens
            leave, as a 2-D attention mask in `generate` does; `"original"` keeps every token where it was. Not said in
            the paper.
        max_attempts (`int`, *optional*, defaults to `5`):
            Attempts per row. The last of several is made without guidance and kept unchecked. With 1, the one attempt
            is guided and kept.
        similarity_threshold (`float`, *optional*, defaults to `0.97`):
            A rejected answer is accepted if its similarity to the chosen one is below this.
        similarity (`str` or `Callable`, *optional*, defaults to `"sentence-transformers/all-mpnet-base-v2"`):
            Id or path of a sentence-transformers model, compared by cosine; `"lexical"` for word overlap where no
            embedding model can be had; or a function of two lists of texts that returns a list of similarities.
        swap_probability (`float`, *optional*, defaults to `0.5`):
            Probability with which a sentence that begins with yes or no has that word swapped before it is cut, which
            then happens behind that word.
        cut_before_first_word (`bool`, *optional*, defaults to `True`):
            Whether a cut may leave nothing of a sentence. Not said in the paper.
        language (`str`, *optional*, defaults to `"en"`):
            Language code for the sentence splitter: two letters (ISO 639-1), or three where a language has no such.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0.0 is greedy decoding. Not said in the paper.
        top_p (`float`, *optional*, defaults to `1.0`):
            Share of probability mass that is sampled from. Not said in the paper.
        max_sentence_tokens (`int`, *optional*, defaults to `64`):
            Longest completion of a sentence, in tokens.
        max_answer_tokens (`int`, *optional*, defaults to `512`):
            Longest unguided answer, in tokens.
        batch_size (`int` or `str`, *optional*, defaults to `64`):
            Completions that go through the model together, at most. `"auto"` finds by trial, at the start, how much
            fits into the memory of a GPU, in place of `max_batch_tokens`, and makes smaller batches when that was too
            much.
        max_batch_tokens (`int`, *optional*, defaults to `16384`):
            Tokens of such a batch, at most: completions times the longest one, with its prompt, the image tokens that
            it sees, and the tokens still to be written. A longer completion goes alone. A 7B LLaVA-1.6 keeps 0.5 MB of
            keys and values for each token (Mistral: 0.125 MB) beside 14 GB of weights: 8 GB here, for about 60
            completions that see 1 % of an image, or five that see all of it. Raise it on a larger GPU. Image features
            are bounded with it, to a sixteenth of that.
        cache_implementation (`str`, *optional*, defaults to `"dynamic"`):
            Where keys and values are kept: `"dynamic"` in memory that grows, `"static"` in memory of a fixed length,
            at most an eighth or 63 tokens more than is needed, in which transformers compiles decoding on GPUs.
        compile_generation (`bool`, *optional*, defaults to `True`):
            With a static cache on a GPU, whether decoding is compiled. The first batches take minutes then.
        seed (`int`, *optional*, defaults to `0`):
            Masks, noise, cuts and samples derive from it, the row id, the training step and the attempt.
    """

    mode: str = setting("attention", "What hides the image: attention, noise or povid.", choices=tuple(MODES))
    guided: bool = setting(True, "Whether sentences of the chosen answer guide the rejected one.")
    mask_threshold: float = setting(0.99, "Share of image tokens to hide, in [0, 1]; mode attention.")
    noise_steps: int = setting(500, "Steps of noise on the image, 1 to 1000; modes noise and povid.")
    noise_range: str = setting(
        "povid", "Noise beyond black and white: povid (wraps) or clamped.", choices=NOISE_RANGES
    )
    positions: str = setting("collapsed", "Positions of what stays visible: collapsed or original.", choices=POSITIONS)
    max_attempts: int = setting(5, "Attempts per row; the last of several is unguided and kept.")
    similarity_threshold: float = setting(0.97, "Answers less similar to the chosen one than this are accepted.")
    similarity: str = setting(
        "sentence-transformers/all-mpnet-base-v2", "Id or path of an embedding model, or lexical, which needs none."
    )
    swap_probability: float = setting(0.5, "Probability of swapping a leading yes or no.")
    cut_before_first_word: bool = setting(True, "Whether a cut may leave nothing of a sentence.")
    language: str = setting("en", "Language code for the sentence splitter.")
    temperature: float = setting(1.0, "Sampling temperature; 0 is greedy decoding.")
    top_p: float = setting(1.0, "Share of probability mass that is sampled from.")
    max_sentence_tokens: int = setting(64, "Longest completion of a sentence, in tokens.")
    max_answer_tokens: int = setting(512, "Longest unguided answer, in tokens.")
    batch_size: int | str = setting(64, "Completions that go through the model together, at most, or auto.")
    max_batch_tokens: int = setting(16384, "Tokens of such a batch, at most, with those still to be written.")
    cache_implementation: str = setting("dynamic", "Where keys and values are kept.", choices=CACHES)
    compile_generation: bool = setting(True, "Whether decoding with a static cache is compiled, on GPUs.")
    seed: int = setting(0, "Seed of masks, noise, cuts and samples.")

    def __post_init__(self) -> None:
        for name in ("mask_threshold", "swap_probability", "top_p"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {value}.")
        for name in ("max_attempts", "max_sentence_tokens", "max_answer_tokens", "batch_size", "max_batch_tokens"):
            value = getattr(self, name)
            if (name, value) == ("batch_size", "auto"):
                continue
            if isinstance(value, str):
                raise ValueError(f"`{name}` must be a whole number, got {value!r}; only `batch_size` may be 'auto'.")
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if self.temperature < 0:
            raise ValueError(f"`temperature` must not be negative, got {self.temperature}.")
        if not 1 <= self.noise_steps <= MAX_STEPS:
            raise ValueError(f"`noise_steps` must be in [1, {MAX_STEPS}], got {self.noise_steps}.")
        choices = {
            "mode": MODES,
            "noise_range": NOISE_RANGES,
            "positions": POSITIONS,
            "cache_implementation": CACHES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.language not in LANGUAGES and not re.fullmatch("[a-z]{3}", self.language):
            raise ValueError(
                f"`language` must be a code of two or three small letters, such as en or zh, got {self.language!r}."
            )
        if MODES[self.mode].teacher_forced and not self.guided:
            raise ValueError(
                f"`guided=False` contradicts `mode='{self.mode}'`, which predicts each token after those of the "
                "chosen answer. Leave `guided=True`, or set `mode='noise'` for full answers under noise."
            )

    def as_settings(self) -> dict[str, Any]:
        """Settings for a manifest that decide what is answered, as JSON values; of a function its name."""
        settings = {name: value for name, value in vars(self).items() if name not in SPEED}
        if callable(self.similarity):
            settings["similarity"] = getattr(self.similarity, "__qualname__", type(self.similarity).__qualname__)
        return settings
