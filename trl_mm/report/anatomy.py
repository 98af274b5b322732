"""
What preference pairs are made of, in figures: what arXiv 2407.02477 (Tables 1, 3 to 5, Figure 7) found to decide
whether a dataset helps. Images are looked at in `image_anatomy`.
"""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..data.pair_statistics import answer_text, count_words, text_of
from ..data.refusals import is_refusal
from ..data.tables import undecoded
from ..data.word_differences import WORD
from .image_anatomy import ImageAnatomy, image_anatomy
from .languages import SHORT, language


Similarity = Callable[[list[str], list[str]], list[float]]

_BATCH = 256
PROVENANCE = ("source", "chosen_model", "rejected_model", "license")


@dataclass
class Anatomy:
    """
    Figures of a preference dataset. Lists have one value per row.

    Attributes:
        chosen_words, rejected_words (`list[int]`): words of the answers.
        chosen_tokens, rejected_tokens (`list[int]`): tokens of their texts, where a processor is known.
        in_common (`list[float]`): words that both answers have, in order, as a share of all their words, in [0, 1].
        first_difference (`list[float]`): words before the first one in which the answers differ, as a share of the
            shorter answer, in [0, 1]; of pairs that differ.
        similarity (`list[float]`): similarity of the answers by an embedding model, if one was given.
        prompts, pairs (`Counter`): rows by prompt, and by image, prompt and both answers, as digests.
        contradictions (`int`): rows whose chosen answer is the rejected one of another row of the same image and
            prompt.
        chosen_refusals, rejected_refusals (`int`): answers that refuse.
        scripts (`Counter`): chosen answers by the writing system of most of their letters.
        languages (`Counter`): chosen answers by language.
        two_languages (`int`): rows whose answers are in two languages, as far as both are long enough to tell.
        provenance (`dict[str, Counter]`): rows by the values of the columns that say where they come from.
        images ([`ImageAnatomy`]): the images.
        turns (`Counter`): rows by the number of messages before the answer.
    """

    images: ImageAnatomy
    chosen_words: list[int] = field(default_factory=list)
    rejected_words: list[int] = field(default_factory=list)
    chosen_tokens: list[int] = field(default_factory=list)
    rejected_tokens: list[int] = field(default_factory=list)
    in_common: list[float] = field(default_factory=list)
    first_difference: list[float] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)
    prompts: Counter = field(default_factory=Counter)
    pairs: Counter = field(default_factory=Counter)
    contradictions: int = 0
    chosen_refusals: int = 0
    rejected_refusals: int = 0
    scripts: Counter = field(default_factory=Counter)
    languages: Counter = field(default_factory=Counter)
    two_languages: int = 0
    provenance: dict[str, Counter] = field(default_factory=dict)
    turns: Counter = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.chosen_words)

    @property
    def identical(self) -> int:
        """Pairs whose answers are the same."""
        return len(self) - len(self.first_difference)

    @property
    def longer_chosen(self) -> float:
        """Share of the pairs with answers of different lengths in which the chosen one is longer; 0.5 is no bias."""
        pairs = list(zip(self.chosen_words, self.rejected_words, strict=True))
        different = sum(chosen != rejected for chosen, rejected in pairs)
        return sum(chosen > rejected for chosen, rejected in pairs) / different if different else 0.5


def anatomy(
    dataset: Dataset,
    *,
    similarity: Similarity | None = None,
    count_image_tokens: Callable[[tuple[int, int]], int] | None = None,
    count_answer_tokens: Callable[[list[str]], list[int]] | None = None,
    hash_images: bool = False,
) -> Anatomy:
    """
    Count what the pairs of a dataset are made of.

    Args:
        dataset (`datasets.Dataset`): rows as [`load_preferences`] returns them.
        similarity (`Callable`, *optional*): function of two lists of texts that returns similarities.
        count_image_tokens (`Callable`, *optional*): from `(height, width)` of an image to its tokens.
        count_answer_tokens (`Callable`, *optional*): from texts to their tokens.
        hash_images (`bool`, *optional*, defaults to `False`): whether to decode every image for its perceptual hash.

    Returns:
        [`Anatomy`]

    Raises:
        ImportError: rapidfuzz or py3langid is missing.
    """
    stored = undecoded(dataset)
    result = Anatomy(image_anatomy(stored, count_image_tokens, hash_images))
    names = [name for name in PROVENANCE if name in dataset.column_names]
    result.provenance = {name: Counter() for name in names}
    answers: dict[bytes, list[set[bytes]]] = defaultdict(lambda: [set(), set()])
    digests = iter(result.images.of_rows)
    texts = stored.select_columns(["prompt", "chosen", "rejected", *names])
    for start in range(0, len(dataset), _BATCH):
        batch = [texts[index] for index in range(start, min(start + _BATCH, len(dataset)))]
        pairs = [(answer_text(row["chosen"]), answer_text(row["rejected"])) for row in batch]
        left, right = map(list, zip(*pairs, strict=True))
        if similarity is not None:
            result.similarity += similarity(left, right)
        if count_answer_tokens is not None:
            result.chosen_tokens += count_answer_tokens(left)
            result.rejected_tokens += count_answer_tokens(right)
        for row, (chosen, rejected) in zip(batch, pairs, strict=True):
            _count(result, row, chosen, rejected, next(digests), answers)
    result.contradictions = sum(len(chosen & rejected) for chosen, rejected in answers.values())
    return result


def _count(
    result: Anatomy,
    row: Mapping[str, Any],
    chosen: str,
    rejected: str,
    images: tuple[str, ...],
    answers: dict[bytes, list[set[bytes]]],
) -> None:
    result.chosen_words.append(count_words(chosen))
    result.rejected_words.append(count_words(rejected))
    in_common, place = compare(chosen, rejected)
    result.in_common.append(in_common)
    if chosen != rejected:
        result.first_difference.append(place)
    prompt = _digest(text_of(row["prompt"]))
    result.prompts[prompt] += 1
    asked = _digest("".join(images)) + prompt
    if chosen != rejected:
        for side, text in zip(answers[asked], (chosen, rejected), strict=True):
            side.add(_digest(text))
    result.pairs[asked + _digest(chosen) + _digest(rejected)] += 1
    result.chosen_refusals += is_refusal(chosen)
    result.rejected_refusals += is_refusal(rejected)
    result.scripts[script(chosen)] += 1
    of_chosen, of_rejected = language(chosen), language(rejected)
    result.languages[of_chosen] += 1
    result.two_languages += of_chosen != of_rejected and SHORT not in (of_chosen, of_rejected)
    result.turns[len(row["prompt"])] += 1
    for name, counts in result.provenance.items():
        counts[str(row[name])] += 1


def compare(left: str, right: str) -> tuple[float, float]:
    """
    How two texts differ by words.

    Args:
        left, right (`str`): the texts.

    Returns:
        `(float, float)`: words in common, in order, as a share of all words (1.0 if there are none), and the words
        before the first difference as a share of the shorter text.
    """
    try:
        from rapidfuzz.distance import Indel
    except ImportError as error:
        raise ImportError(
            "Comparing answers needs rapidfuzz; install it with `pip install trl-mm[report]`."
        ) from error

    first, second = ([match[0] for match in WORD.finditer(text)] for text in (left, right))
    shorter = min(len(first), len(second))
    same = next((place for place in range(shorter) if first[place] != second[place]), shorter)
    return Indel.normalized_similarity(first, second), same / shorter if shorter else 0.0


def script(text: str) -> str:
    """Writing system of most letters of a text, as Unicode names it (`"latin"`, `"cjk"`, …); `"none"` without any."""
    counts = Counter(unicodedata.name(c, "unknown").split()[0].lower() for c in text[:500] if c.isalpha())
    return counts.most_common(1)[0][0] if counts else "none"


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode(errors="replace"), digest_size=8).digest()


def repeated(counts: Mapping[Any, int]) -> int:
    """Rows that say again what another row says."""
    return sum(counts.values()) - len(counts)


def table_1(name: str, found: Anatomy) -> list[Any]:
    """
    A dataset as a row of Table 1 of the paper.

    Args:
        name (`str`): name of the dataset.
        found ([`Anatomy`]): its figures.

    Returns:
        `list`: the cells under `TABLE_1`, as far as columns say them.
    """
    of = [_commonest(found.provenance.get(column)) for column in PROVENANCE]
    return [name, len(found), len(found.prompts), found.images.distinct, *of]


def _commonest(counts: Counter | None) -> str:
    """The commonest value with its share."""
    if not counts:
        return "not said"
    ((value, count),) = counts.most_common(1)
    return value if len(counts) == 1 else f"{value} ({count / counts.total():.0%}) and {len(counts) - 1} more"


TABLE_1 = ("dataset", "rows", "prompts", "images", "source", "chosen by", "rejected by", "licence")
