"""Rows to completions: the one place that calls `model.generate`.

What is unusual in it:
- Image tokens that are hidden from the model are dropped, not masked. A key that no query may attend to has no effect
  on any output that is used, so the logits are the same and the prompt is up to a hundred times shorter.
- Sampling is seeded per request, by inverting the cumulative distribution with one uniform number a step, so that what
  a row is answered does not depend on the other rows of its batch, but for rounding.
"""

import contextlib
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from .data.chat import prompt_ids, render, text_ids
from .data.seeds import derived_seed


# Models whose image enters as a run of embeddings under plain causal attention and one-dimensional positions, so that
# dropping some of them is the same as masking them
MODELS_THAT_CAN_HIDE = ("llava", "llava_next", "vipllava")
CONTEXT_TOKENS = 8  # decoded in front of new tokens, since some tokenizers strip the space of a first token


@dataclass(frozen=True)
class SamplingSettings:
    """
    How completions are sampled.

    Args:
        max_new_tokens (`int`, *optional*, defaults to `128`): longest completion, in tokens.
        temperature (`float`, *optional*, defaults to `1.0`): temperature of the softmax; `0.0` is greedy decoding.
        top_p (`float`, *optional*, defaults to `1.0`): share of probability mass that is sampled from.
        batch_size (`int`, *optional*, defaults to `32`): requests that go through the model together.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    batch_size: int = 32


@dataclass
class Prompt:
    """
    A row as the model reads it.

    Attributes:
        row (`dict`): the row; its `images` are PIL images.
        text (`str`): rendered prompt.
        lead (`str`): what the chat template puts between prompt and answer.
        answer (`str`): answer of the row, or `""`.
        ids (`torch.Tensor` of shape `(prompt_length,)`): token ids, image placeholders expanded.
        is_image (`torch.Tensor` of shape `(prompt_length,)`): `True` where a token is an image token.
        features (`torch.Tensor` of shape `(num_image_tokens, hidden_size)`, *optional*): image features, computed
            when they are first needed and kept for later attempts.
    """

    row: dict
    text: str
    lead: str
    answer: str
    ids: torch.Tensor
    is_image: torch.Tensor
    features: torch.Tensor | None = None

    @property
    def num_image_tokens(self):
        return int(self.is_image.sum())


@dataclass
class Request:
    """
    One completion to be written.

    Attributes:
        prompt ([`Prompt`]): what comes before the answer.
        prefix (`str`): beginning of the answer that is given, as rendered after the prompt.
        seed (`tuple`): what the sampling derives from, such as (seed, row id, attempt).
        visible (`torch.Tensor` of shape `(num_image_tokens,)`, *optional*): image tokens that the model sees; `None`
            shows them all.
    """

    prompt: Prompt
    prefix: str = ""
    seed: tuple = ()
    visible: torch.Tensor | None = field(default=None, repr=False)


@contextlib.contextmanager
def generating(model):
    """No gradients, no dropout, no settings of the model's own and, in eval mode, no gradient checkpointing."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    # `generate` fills what a call leaves open from here: penalties or beams would not sample from the model
    holder = model.get_base_model() if hasattr(model, "get_base_model") else model
    own, holder.generation_config = holder.generation_config, GenerationConfig()
    try:
        with torch.no_grad():
            yield
    finally:
        holder.generation_config = own
        for module in training:
            module.training = True


class SeededSampling(LogitsProcessor):
    """Leaves one token per row, drawn with that row's own random numbers: argmax of the result is a sample."""

    def __init__(self, seeds, max_new_tokens):
        draws = [np.random.Generator(np.random.Philox(derived_seed(*seed))).random(max_new_tokens) for seed in seeds]
        self.uniform = torch.tensor(np.array(draws))  # (B, max_new_tokens)
        self.step = 0

    def __call__(self, input_ids, scores):
        cumulative = scores.double().softmax(-1).cumsum(-1)  # (B, V)
        target = self.uniform[:, self.step : self.step + 1].to(scores.device) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[-1] - 1)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(-1, chosen, 0.0)


class StopWhere(StoppingCriteria):
    """Ends each row on its own, as soon as `find_end` finds an end in the row's new text."""

    def __init__(self, find_end, decode):
        self.find_end, self.decode = find_end, decode

    def __call__(self, input_ids, scores, **kwargs):
        done = [self.find_end(text) is not None for text in self.decode(input_ids)]
        return torch.tensor(done, device=input_ids.device)


class Completer:
    """
    Writes answers, or their continuations, with a vision-language model.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model, with a chat template.
        settings ([`SamplingSettings`], *optional*): how completions are sampled.
    """

    def __init__(self, processor, settings=None):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.settings = settings or SamplingSettings()
        if getattr(processor, "image_token_id", None) is None:
            raise ValueError(
                f"`processor` ({type(processor).__name__}) has no image token, so answers about images cannot be "
                "sampled with it. Pass the processor of a vision-language model (`AutoProcessor.from_pretrained`)."
            )

    def prompts(self, rows):
        """Render and tokenize rows (`list[dict]` with PIL `images`); returns `list[Prompt]`. No pixel is touched."""
        prompts = []
        for row in rows:
            rendered = render(row, self.processor)
            ids = torch.tensor(prompt_ids(self.processor, rendered.prompt, row["images"]), dtype=torch.long)
            is_image = ids == self.processor.image_token_id
            prompts.append(Prompt(row, rendered.prompt, rendered.lead, rendered.answer, ids, is_image))
        return prompts

    def complete(self, model, requests, find_end=None, positions="collapsed"):
        """
        Complete all requests, sorted by length so that padding stays small.

        Args:
            model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
            requests (`list` of [`Request`]): what to complete.
            find_end (`Callable[[str], int | None]`, *optional*): given the new text of a row so far, where the
                completion ends, or `None` to go on. Without it a completion ends with the end token.
            positions (`str`, *optional*, defaults to `"collapsed"`): what hidden tokens do to the positions of the
                others: `"collapsed"` closes the gap, `"original"` keeps it.

        Returns:
            `list[str]`: new text of each request, without its prefix, in the order of the requests.

        Raises:
            ValueError: the model cannot hide image tokens but a request asks for it.
        """
        texts = [""] * len(requests)
        lengths = [self._length(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: lengths[index])
        config = self._generation_config(model)
        with generating(model):
            for start in range(0, len(order), self.settings.batch_size):
                indices = order[start : start + self.settings.batch_size]
                batch = [requests[index] for index in indices]
                for index, text in zip(
                    indices, self._complete(model, batch, config, find_end, positions), strict=True
                ):
                    texts[index] = text
        return texts

    def _length(self, request):
        visible = request.prompt.num_image_tokens if request.visible is None else int(request.visible.sum())
        return len(request.prompt.ids) - request.prompt.num_image_tokens + visible + len(request.prefix) // 4

    def _complete(self, model, batch, config, find_end, positions):
        prefixes = [text_ids(self.processor, request.prefix) for request in batch]
        if all(request.visible is None for request in batch):
            inputs, contexts = self._all_visible(batch, prefixes)
        else:
            inputs, contexts = self._partly_hidden(model, batch, prefixes, positions)
        inputs = {name: value.to(model.device) for name, value in inputs.items()}
        start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0

        def new_texts(sequences):
            return [
                self._text(context, ids) for context, ids in zip(contexts, sequences[:, start:].tolist(), strict=True)
            ]

        sequences = model.generate(
            **inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList(self._sampling(batch)),
            stopping_criteria=StoppingCriteriaList([StopWhere(find_end, new_texts)] if find_end else []),
        )
        texts = new_texts(sequences)
        return [text[: find_end(text)] for text in texts] if find_end else texts

    def _all_visible(self, batch, prefixes):
        """Inputs as the processor makes them, each row followed by its prefix and padded on the left."""
        images = [request.prompt.row["images"] for request in batch]
        inputs = self.processor(
            text=[request.prompt.text for request in batch],
            images=images if any(images) else None,
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
        )
        real = inputs.pop("attention_mask").bool()  # (B, P)
        per_token = {}
        for name in ("input_ids", "token_type_ids", "mm_token_type_ids"):
            if name in inputs:
                values = inputs.pop(name)
                per_token[name] = [
                    torch.cat([row[keep], torch.tensor(prefix if name == "input_ids" else [0] * len(prefix)).long()])
                    for row, keep, prefix in zip(values, real, prefixes, strict=True)
                ]
        ids = per_token["input_ids"]
        fill = {"input_ids": self.tokenizer.pad_token_id}
        padded = {name: pad_left(rows, fill.get(name, 0)) for name, rows in per_token.items()}
        padded["attention_mask"] = pad_left([torch.ones_like(row) for row in ids])
        return {**inputs, **padded}, [row[-CONTEXT_TOKENS:].tolist() for row in ids]

    def _partly_hidden(self, model, batch, prefixes, positions):
        """Inputs as embeddings, hidden image tokens dropped, padded on the left."""
        if model.config.model_type not in MODELS_THAT_CAN_HIDE:
            raise ValueError(
                f"Image tokens of a `{model.config.model_type}` model cannot be hidden one by one; this works for "
                f"{', '.join(MODELS_THAT_CAN_HIDE)}."
            )
        self._encode_images(model, [r.prompt for r in batch if r.visible is None or r.visible.any()])
        embed = model.get_input_embeddings()
        embeds, position_ids, contexts = [], [], []
        for request, prefix in zip(batch, prefixes, strict=True):
            prompt = request.prompt
            keep = torch.ones(len(prompt.ids) + len(prefix), dtype=torch.bool)
            if request.visible is not None:
                keep[: len(prompt.ids)][prompt.is_image] = request.visible
            ids = torch.cat([prompt.ids, torch.tensor(prefix, dtype=torch.long)])
            row = embed(ids[keep].to(model.device))  # (T, H)
            is_image = torch.cat([prompt.is_image, torch.zeros(len(prefix), dtype=torch.bool)])[keep]
            if is_image.any():
                shown = slice(None) if request.visible is None else request.visible.to(prompt.features.device)
                row = row.clone()
                row[is_image.to(row.device)] = prompt.features[shown].to(row.dtype)
            embeds.append(row)
            position_ids.append(keep.nonzero()[:, 0] if positions == "original" else torch.arange(len(row)))
            contexts.append(ids[-CONTEXT_TOKENS:].tolist())
        inputs = {
            "inputs_embeds": pad_left(embeds),  # (B, T, H)
            "attention_mask": pad_left([torch.ones(len(row), dtype=torch.long) for row in embeds]),  # (B, T)
            "position_ids": pad_left(position_ids),  # (B, T)
        }
        return inputs, contexts

    def _encode_images(self, model, prompts):
        missing = {id(p): p for p in prompts if p.features is None and p.row["images"]}
        for prompt in missing.values():
            inputs = self.processor.image_processor(prompt.row["images"], return_tensors="pt").to(model.device)
            inputs = {name: inputs[name] for name in ("pixel_values", "image_sizes") if name in inputs}
            inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
            features = torch.cat(list(model.get_image_features(**inputs).pooler_output))  # (num_image_tokens, H)
            if len(features) != prompt.num_image_tokens:
                raise ValueError(
                    f"The vision tower gives {len(features)} features but the processor counts "
                    f"{prompt.num_image_tokens} image tokens. Use the processor that belongs to the model."
                )
            prompt.features = features

    def _sampling(self, batch):
        settings = self.settings
        if settings.temperature == 0:
            return []
        warpers = [] if settings.temperature == 1 else [TemperatureLogitsWarper(settings.temperature)]
        if settings.top_p < 1:
            warpers.append(TopPLogitsWarper(settings.top_p))
        return [*warpers, SeededSampling([request.seed for request in batch], settings.max_new_tokens)]

    def _generation_config(self, model):
        eos = model.generation_config.eos_token_id
        return GenerationConfig(
            max_new_tokens=self.settings.max_new_tokens,
            min_new_tokens=1,  # an answer of nothing, or a sentence that is left out, is no completion
            do_sample=False,  # `SeededSampling` leaves a single token to choose
            use_cache=True,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id if eos is None else eos,
            suppress_tokens=image_token_ids(model.config, self.processor),
        )

    def _text(self, context, ids):
        """New text after `context`, with the space that a tokenizer would strip from a text that begins with it."""
        before = self._decode(context)
        whole = self._decode(context + ids)
        text = whole[len(before) :] if whole.startswith(before) else self._decode(ids)
        return text.replace(self.processor.image_token, "")  # spelled in other tokens, it would be read as an image

    def _decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def image_token_ids(config, processor):
    """Ids of the tokens that stand for images or videos and must not be sampled (`list[int]`, sorted)."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    found = {getattr(config, name, None) for name in names} | {processor.image_token_id}
    return sorted(token for token in found if token is not None)


def pad_left(rows, value=0):
    """Stack tensors of shapes `(T_i, ...)` to `(B, max T_i, ...)`, `value` in front of the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side="left")
