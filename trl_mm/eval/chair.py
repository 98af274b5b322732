"""
CHAIR (Rohrbach et al., "Object Hallucination in Image Captioning", EMNLP 2018): which of the objects that a caption
names are not in the image. The only change w.r.t. the published metric is that recall stands beside it, since a
caption that says nothing does not hallucinate.
"""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..data.object_vocabulary import ObjectVocabulary
from .benchmark import Benchmark, Metric, figures, need_annotations
from .captions import add_objects_of_captions, load_captions
from .chair_files import match_captions, read_captions, read_truths
from .intervals import bootstrap_ratio, ratio
from .published_chair import READINGS, PublishedVocabulary, read_synonyms


def chair(
    captions: Sequence[str],
    truths: Sequence[Set[str]],
    vocabulary: ObjectVocabulary | PublishedVocabulary,
    *,
    partners: Mapping[str, str] | None = None,
) -> dict:
    """
    Scores captions against the objects that are in their images. A mention is one naming of an object, so an object
    named twice counts twice, as in the published code. A share with nothing below the line is 0.0: captions without
    any mention have `chair_i` 0.0, `chair_s` 0.0 and recall 0.0.

    Args:
        captions (`Sequence[str]`):
            One caption per image.
        truths (`Sequence[Set[str]]`):
            For each caption, the canonical names of all objects in its image. (The published scores for COCO take the
            objects of the instances together with those named in the five reference captions.)
        vocabulary ([`ObjectVocabulary`] or [`PublishedVocabulary`]):
            Which words name which object.
        partners (`Mapping[str, str]`, *optional*):
            From an object to the one that a prior of the language makes the model expect beside it.

    Returns:
        `dict`: figures over all captions, and the counts they are made of:

        - `chair_i` (`float`): hallucinated mentions / mentions.
        - `chair_s` (`float`): captions with at least one hallucinated mention / captions.
        - `recall` (`float`): annotated objects that are named / annotated objects, both summed over the images.
        - `mentions_per_caption` (`float`): mentions / captions.
        - `prior_share` (`float`, with `partners` only): mentions that are hallucinated and are the partner of an
          object in the image / mentions. It is the part of `chair_i` that the prior explains.
        - `counts` (`dict[str, list[int]]`): for each caption, `mentions`, `hallucinated`, `any_hallucinated` (0 or 1),
          `annotated`, `named`, and with `partners` `prior`; what [`bootstrap_ratio`] needs.

    Raises:
        ValueError: there is no caption, `truths` has another length, or `truths` or `partners` have an object that
            the vocabulary does not.
    """
    if not captions or len(captions) != len(truths):
        raise ValueError(
            f"`captions` and `truths` must be of one length and not empty, got {len(captions)} and {len(truths)}."
        )
    unknown = set().union(*truths, *(partners or {}).items()).difference(vocabulary.objects)
    if unknown:
        raise ValueError(
            f"`truths` or `partners` name objects that the vocabulary does not have: {', '.join(sorted(unknown))}. "
            "Add them to the vocabulary file; a name must be spelled as the first one on its line."
        )

    columns = ["mentions", "hallucinated", "any_hallucinated", "annotated", "named"]
    counts: dict[str, list[int]] = {column: [] for column in columns + ["prior"] * (partners is not None)}
    for caption, truth in zip(captions, truths, strict=True):
        named = [mention.object for mention in vocabulary.mentions(caption)]
        hallucinated = [object_ for object_ in named if object_ not in truth]
        counts["mentions"].append(len(named))
        counts["hallucinated"].append(len(hallucinated))
        counts["any_hallucinated"].append(int(bool(hallucinated)))
        counts["annotated"].append(len(truth))
        counts["named"].append(len(truth & set(named)))
        if partners is not None:
            expected = {partners[object_] for object_ in truth if object_ in partners}
            counts["prior"].append(sum(object_ in expected for object_ in hallucinated))

    ones = [1] * len(captions)
    scores = {
        "chair_i": ratio(counts["hallucinated"], counts["mentions"]),
        "chair_s": ratio(counts["any_hallucinated"], ones),
        "recall": ratio(counts["named"], counts["annotated"]),
        "mentions_per_caption": ratio(counts["mentions"], ones),
    }
    if partners is not None:
        scores["prior_share"] = ratio(counts["prior"], counts["mentions"])
    return {**scores, "counts": counts}


def read_partners(path: str | Path) -> dict[str, str]:
    """Objects that go together in text, from a JSON file."""
    cure = 'Write {"object": "its partner"} to it.'
    try:
        partners = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OSError(f"`partners` ({path}) cannot be read: {error}. {cure}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`partners` ({path}) is no JSON: {error}. {cure}") from error
    if not isinstance(partners, dict) or not all(isinstance(name, str) for name in partners.values()):
        raise ValueError(f"`partners` ({path}) does not say which object goes with which. {cure}")
    return partners


@dataclass(kw_only=True)
class ChairBenchmark(Benchmark):
    """
    CHAIR on captions of annotated images, with our vocabulary or exactly as published. Figures of papers differ in the
    list of images, in the length of captions and in the copy of the script: compare only what was run alike. The
    published scores are those of the original script (`singularize`), with the recall that the copy of Maxlinn adds,
    or those of OPERA's (`wordnet`), which adds the mean length in hundreds of words. lmms-eval has a third.

    Args:
        captions (`str`, *optional*): COCO-style JSON of reference captions. The objects that they name join the truth
            of CHAIR, as in the published CHAIR. They are found by the reading of the captions.
        vocabulary (`str`, *optional*): file of object names and synonyms of our reading; defaults to those of COCO.
        partners (`str`, *optional*): JSON file from an object to the one that the model's prior puts beside it; the
            share of hallucinations that the prior explains is then reported.
        caption_prompt (`str`, *optional*, defaults to `"Describe the image."`): question for captions.
        chair_truths (`str`, *optional*): JSON file from image to the list of its objects, or a COCO-style one of
            instances, in place of `annotations`.
        chair_synonyms (`str`, *optional*): the authors' synonyms.txt, which the published readings need. It has no
            licence, so it is not part of this package.
        chair_reading (`str`, *optional*): how objects are found. `"singularize"`, as in the original script, and
            `"wordnet"`, as in OPERA's copy of it, need `chair_synonyms`; `"ours"` is the default without these.
    """

    captions: str | None = None
    vocabulary: str | None = None
    partners: str | None = None
    caption_prompt: str = "Describe the image."
    chair_truths: str | None = None
    chair_synonyms: str | None = None
    chair_reading: Literal["singularize", "wordnet", "ours"] | None = None

    title = "CHAIR"
    answer_rows = "`image` or `image_id`, and `caption`; the objects of each image come from `--truths`"
    metrics = {
        "chair_i": Metric("CHAIR_i", "lower"),
        "chair_s": Metric("CHAIR_s", "lower"),
        "recall": Metric("recall", "higher"),
        "prior_share": Metric("by the prior", "lower"),
    }
    score_settings = {
        "chair_truths": None,
        "captions": None,
        "chair_synonyms": None,
        "chair_reading": "singularize",
        "vocabulary": None,
    }

    def __post_init__(self) -> None:
        if self.chair_reading not in (None, "ours", *READINGS):
            known = ", ".join((*READINGS, "ours"))
            raise ValueError(f"`chair_reading` must be one of {known}, got {self.chair_reading!r}.")
        if self.chair_reading in READINGS and self.chair_synonyms is None:
            raise ValueError(
                f"The reading `{self.chair_reading}` of CHAIR needs the authors' synonyms.txt as `chair_synonyms` "
                "(`--synonyms` of `trl-mm score`): data/synonyms.txt of LisaAnne/Hallucination. The reading `ours` "
                "needs none, but is another measure."
            )

    @property
    def _reading(self) -> str:
        return self.chair_reading or ("singularize" if self.chair_synonyms else "ours")

    @cached_property
    def _vocabulary(self) -> ObjectVocabulary | PublishedVocabulary:
        if self._reading == "ours" or self.chair_synonyms is None:
            return ObjectVocabulary.from_file(self.vocabulary)
        return PublishedVocabulary(read_synonyms(self.chair_synonyms), self._reading)

    @cached_property
    def _partners(self) -> dict[str, str] | None:
        return read_partners(self.partners) if self.partners else None

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        truths = self._truths(read_truths(self.chair_truths) if self.chair_truths else need_annotations(truths))
        rows = [{"image": image, "question": self.caption_prompt, "truth": truths[image]} for image in truths]
        self._chair(rows, ["A dog."] * len(rows))  # refuses unknown names, and needs what the reading needs
        return rows

    def _truths(self, truths: Mapping[str, Set[str]]) -> Mapping[str, Set[str]]:
        return (
            add_objects_of_captions(truths, load_captions(self.captions), self._vocabulary)
            if self.captions
            else truths
        )

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        if self.chair_truths is None:
            raise ValueError(
                "`truths` is missing: give a JSON file from image to its objects, or COCO-style instances and, as "
                "`captions`, the reference captions."
            )
        captions = read_captions(path)
        rows = match_captions(path, captions, read_truths(self.chair_truths))
        if self.captions:  # of the captioned images only: a file of COCO is of 40,000
            truths = self._truths({row["image"]: row["truth"] for row in rows})
            rows = [{**row, "truth": truths[row["image"]]} for row in rows]
        return rows, [caption for _, caption in captions]

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        result = self._chair(questions, answers) | {"reading": self._reading}
        if isinstance(self._vocabulary, PublishedVocabulary) and self._reading == "wordnet":
            result["length"] = sum(map(self._vocabulary.length, answers)) / len(answers)
        parts = self.metric_parts(result)
        return {**result, "intervals": {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}}

    def _chair(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, Any]:
        truths = [row["truth"] for row in questions]
        return chair(answers, truths, self._vocabulary, partners=self._partners)

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        scores = {"CHAIRs": result["chair_s"], "CHAIRi": result["chair_i"], "Recall": result["recall"]}
        return scores | ({"Len": result["length"] / 100} if "length" in result else {})

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        counts = zip(result["counts"]["hallucinated"], result["counts"]["mentions"], strict=True)
        return [1 - hallucinated / mentions if mentions else None for hallucinated, mentions in counts]

    def marks(self, question: Mapping[str, Any], answer: str) -> list[tuple[int, int, str]]:
        named = self._vocabulary.mentions(answer)
        return [(found.start, found.end, "good" if found.object in question["truth"] else "bad") for found in named]

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        counts = result["counts"]
        parts = {
            "chair_i": (counts["hallucinated"], counts["mentions"]),
            "chair_s": (counts["any_hallucinated"], [1] * len(counts["mentions"])),
            "recall": (counts["named"], counts["annotated"]),
        }
        return parts | ({"prior_share": (counts["prior"], counts["mentions"])} if "prior" in counts else {})

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        lines = [
            f"{len(result['counts']['mentions'])} captions, {result['mentions_per_caption']:.1f} objects named in "
            f"each: {figures(result, ('chair_i', 'chair_s', 'recall'))}, {READ_BY[result['reading']]}"
        ]
        if not result["mentions_per_caption"]:
            lines.append("No caption names an object of the vocabulary: chair_i and chair_s say nothing. Read them.")
        return lines


# How objects were found, for the terminal
READ_BY = {
    "ours": "objects found by our vocabulary (not the published measure)",
    "singularize": "objects found as published, by the singular forms of pattern.en (TextBlob's)",
    "wordnet": "objects found as in OPERA's copy of the published script, by NLTK's tagger and WordNet",
}
