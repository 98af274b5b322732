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
from typing import Any

from .benchmark import Benchmark, Metric, figures, need_annotations
from .captions import add_objects_of_captions, load_captions
from .intervals import bootstrap_ratio, ratio
from .objects import ObjectVocabulary


def chair(
    captions: Sequence[str],
    truths: Sequence[Set[str]],
    vocabulary: ObjectVocabulary,
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
        vocabulary ([`ObjectVocabulary`]):
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
    CHAIR on captions of annotated images.

    Args:
        captions (`str`, *optional*): COCO-style JSON of reference captions. The objects that they name join the truth
            of CHAIR, as in the published CHAIR. They are found by our vocabulary, not by the published
            synonyms list.
        vocabulary (`str`, *optional*): file of object names and synonyms; defaults to those of COCO.
        partners (`str`, *optional*): JSON file from an object to the one that the model's prior puts beside it; the
            share of hallucinations that the prior explains is then reported.
        caption_prompt (`str`, *optional*, defaults to `"Describe the image."`): question for captions.
    """

    captions: str | None = None
    vocabulary: str | None = None
    partners: str | None = None
    caption_prompt: str = "Describe the image."

    title = "CHAIR"
    answer_rows = "`image` and `caption`; the objects of each image come from `--truths`"
    metrics = {
        "chair_i": Metric("CHAIR_i", "lower"),
        "chair_s": Metric("CHAIR_s", "lower"),
        "recall": Metric("recall", "higher"),
        "prior_share": Metric("by the prior", "lower"),
    }

    @cached_property
    def _vocabulary(self) -> ObjectVocabulary:
        return ObjectVocabulary.from_file(self.vocabulary)

    @cached_property
    def _partners(self) -> dict[str, str] | None:
        return read_partners(self.partners) if self.partners else None

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        truths = need_annotations(truths)
        if self.captions:
            truths = add_objects_of_captions(truths, load_captions(self.captions), self._vocabulary)
        rows = [{"image": image, "question": self.caption_prompt, "truth": truths[image]} for image in truths]
        self._chair(rows, [""] * len(rows))  # refuses unknown names
        return rows

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        result = self._chair(questions, answers)
        parts = self.metric_parts(result)
        return {**result, "intervals": {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}}

    def _chair(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, Any]:
        truths = [row["truth"] for row in questions]
        return chair(answers, truths, self._vocabulary, partners=self._partners)

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
            f"each: {figures(result, ('chair_i', 'chair_s', 'recall'))}"
        ]
        if not result["mentions_per_caption"]:
            lines.append("No caption names an object of the vocabulary: chair_i and chair_s say nothing. Read them.")
        return lines
