"""
CHAIR (Rohrbach et al., "Object Hallucination in Image Captioning", EMNLP 2018): which of the objects that a caption
names are not in the image. The only change w.r.t. the published metric is that recall stands beside it, since a
caption that says nothing does not hallucinate.
"""

from collections.abc import Mapping, Sequence, Set

from .intervals import ratio
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
        `ValueError`: if there is no caption, `truths` has another length, or `truths` or `partners` have an object
            that the vocabulary does not.
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
        counts["named"].append(len(truth.intersection(named)))
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
