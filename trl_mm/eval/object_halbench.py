"""
Object HalBench as RLHF-V and RLAIF-V measure it (Yu et al., arXiv 2312.00849): objects that a language model finds in
descriptions of 300 images of COCO, compared with those that are there. Its recall is the "Recall_coco" of
arXiv 2407.02477.
"""

import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .answer_files import as_answer, check_entries, read_entries
from .benchmark import Ask, Benchmark, Metric, figures
from .captions import add_objects_of_captions, load_captions
from .chair_files import read_truths
from .extracted_objects import RefinedVocabulary, extraction_request, is_short, read_objects
from .image_names import image_finder, sums_per_image
from .intervals import bootstrap_ratio, ratio
from .published_chair import read_synonyms


@dataclass(kw_only=True)
class ObjectHalBenchBenchmark(Benchmark):
    """
    Object HalBench: of the objects that a judge extracts from each answer, the share that is not in the image
    (CHAIRi), the share of answers with such an object among those that name any of COCO (CHAIRs_refine), and the
    share of the objects in the images that are named (the recall, Recall_coco). Answers of up to three words name
    nothing. At 300 images the standard error of the recall is about 1.4 points: less is no difference. The published
    extractor, gpt-3.5-turbo-0613, is gone, and its instruction was a system message; lemmas and nouns of what it
    extracted were spaCy's en_core_web_trf, and are NLTK's here. Questions, obj_halbench_300_with_image.jsonl, and
    synonyms_refine.txt are in RLHF-V/RLAIF-V, images are those of COCO 2014. Not in lmms-eval or VLMEvalKit.

    Args:
        object_halbench_file (`str`, *optional*): the questions: rows with `question` and `image_id`. Images are
            `COCO_val2014_000000000001.jpg` and so on, unless `image` is a path.
        object_halbench_synonyms (`str`, *optional*): synonyms_refine.txt of RLAIF-V, or a list in the same format.
        object_halbench_truths (`str`, *optional*): JSON file from image to the list of its objects, or a COCO-style
            one of instances, in place of `annotations`.
        object_halbench_captions (`str`, *optional*): COCO-style JSON of the reference captions. What they name joins
            the truth, as published.
    """

    object_halbench_file: str | None = None
    object_halbench_synonyms: str | None = None
    object_halbench_truths: str | None = None
    object_halbench_captions: str | None = None

    title = "Object HalBench"
    answer_rows = (
        "`image_id`, `answer` (or `text`, `caption`), and `objects` (a list) or `reply` (of the extractor); the "
        "objects of each image come from `--truths`"
    )
    metrics = {
        "object_halbench_chair_s": Metric("CHAIR_s", "lower"),
        "object_halbench_chair_i": Metric("CHAIR_i", "lower"),
        "object_halbench_recall": Metric("Recall_coco", "higher"),
    }
    score_settings = {
        "object_halbench_synonyms": None,
        "object_halbench_truths": None,
        "object_halbench_captions": None,
    }
    judge_options = {"temperature": 0, "max_tokens": 1024}

    @cached_property
    def _vocabulary(self) -> RefinedVocabulary:
        if self.object_halbench_synonyms is None:
            raise ValueError(
                "`object_halbench_synonyms` is missing (`--synonyms` of `trl-mm score`): give synonyms_refine.txt of "
                "RLHF-V/RLAIF-V, or a list in its format."
            )
        return RefinedVocabulary(read_synonyms(self.object_halbench_synonyms))

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if self.object_halbench_file is None:
            raise ValueError("`object_halbench_file` is missing: give obj_halbench_300_with_image.jsonl of RLAIF-V.")
        path = Path(self.object_halbench_file)
        entries = read_entries(path, "`object_halbench_file`")
        check_entries(path, entries, ("question", "image_id"))
        images = [_image(entry) for entry in entries]
        known = self._truths(path, images, truths)
        self._vocabulary.words(["dog"])  # what this needs is missing now, and not when all is answered
        return [
            {"image": image, "question": str(entry["question"]), "truth": known[image]}
            for image, entry in zip(images, entries, strict=True)
        ]

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        entries = read_entries(path)
        if len(entries) == 1 and isinstance(entries[0], Mapping) and isinstance(entries[0].get("sentences"), list):
            entries = entries[0]["sentences"]  # what the published script writes
        check_entries(path, entries, ("image_id",))
        images, rows, answers = [], [], []
        for number, entry in enumerate(entries, start=1):
            key = next((key for key in ("answer", "text", "caption") if key in entry), "answer")
            answers.append(as_answer(path, number, entry.get(key), key).replace("Assistant:", "").strip())
            images.append(_image(entry))
            question = str(entry.get("question", entry.get("prompt", "")))
            reply = _reply(path, number, entry, answers[-1])
            rows.append({"image": images[-1], "question": question, "reply": reply})
        known = self._truths(path, images, None)
        return [{**row, "truth": known[image]} for row, image in zip(rows, images, strict=True)], answers

    def _truths(
        self, path: Path, images: Sequence[str], truths: Mapping[str, Set[str]] | None
    ) -> dict[str, frozenset[str]]:
        """Objects of the images, by the names of the list of synonyms."""
        given = read_truths(self.object_halbench_truths) if self.object_halbench_truths else truths
        if given is None:
            raise ValueError(
                "`annotations` or `object_halbench_truths` is missing (`--truths` of `trl-mm score`): give a JSON "
                "file from image to its objects, or COCO-style instances."
            )
        find = image_finder(given)
        missing = [image for image in images if find(image) is None]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(images)} rows of {path} are of images without objects in the truth, such as "
                f"{missing[0]}; {len(given.keys() - set(map(find, images)))} images of the truth are in no row."
            )
        known = {image: given[name] for image in images if (name := find(image)) is not None}
        unknown = sorted({name for names in known.values() for name in names if not self._vocabulary.object_of(name)})
        if unknown:
            raise ValueError(f"The list of synonyms lacks objects of the truth: {', '.join(unknown)}.")
        objects = {image: {self._vocabulary.object_of(name) or name for name in known[image]} for image in known}
        if self.object_halbench_captions:
            objects = add_objects_of_captions(objects, load_captions(self.object_halbench_captions), self._vocabulary)
        return {image: frozenset(names) for image, names in objects.items()}

    def judge(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], ask: Ask) -> list[dict[str, Any]]:
        replies: list[str | None] = ["[]" if is_short(answer) else None for answer in answers]
        # The published script asks until it can read the reply: here again, once, and with some chance
        for options in ({}, {"temperature": 0.5}):
            waiting = [index for index, reply in enumerate(replies) if read_objects(reply) is None]
            requests = [(extraction_request(questions[index]["question"], answers[index]), ()) for index in waiting]
            said = ask(requests, **options) if waiting else []
            for index, reply in zip(waiting, said, strict=True):
                replies[index] = reply if reply is not None else replies[index]
        return [{"reply": reply} for reply in replies]

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        rows = [self._row(question, answer) for question, answer in zip(questions, answers, strict=True)]
        if all(row is None for row in rows):
            raise ValueError("The extractor has no readable reply to any answer: nothing can be scored. Read them.")
        result: dict[str, Any] = {"images": [row["image"] for row in questions], "rows": rows}
        result["unjudged"] = sum(row is None for row in rows)
        parts = self.metric_parts(result)
        result |= {name: ratio(*part) for name, part in parts.items()}
        result["intervals"] = {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}
        return result

    def _row(self, question: Mapping[str, Any], answer: str) -> dict[str, int] | None:
        names = read_objects(question.get("reply"))
        if names is None:
            return None
        objects = [self._vocabulary.object_of(word) for word in self._vocabulary.words(names)]
        wrong = sum(name not in question["truth"] for name in objects)
        return {
            "objects": len(objects),
            "hallucinated": wrong,
            "any_hallucinated": int(wrong > 0),
            "any_object": int(bool(objects)),
            "named": len(question["truth"] & set(objects)),
            "annotated": len(question["truth"]),
            "words": len(answer.strip().split(" ")),
        }

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        rows = [row for row in result["rows"] if row is not None]
        sums = {name: sum(row[name] for row in rows) for name in rows[0]}
        chair_s, chair_i = result["object_halbench_chair_s"], result["object_halbench_chair_i"]
        return {
            "CHAIRs": sums["any_hallucinated"] / len(rows),
            "CHAIRs_refine": chair_s,
            "CHAIRi": chair_i,
            "obj_rec": result["object_halbench_recall"],
            "sentence_num": len(rows),
            "coco_sentence_num": sums["any_object"],
            "coco_word_count": sums["named"],
            "gt_word_count": sums["annotated"],
            "avg_word_len": sums["words"] / len(rows),
            "correct_rate": 1 - chair_s,
            "object_correct_rate": 1 - chair_i,
            "unjudged": result["unjudged"],
        }

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return [1 - row["hallucinated"] / row["objects"] if row and row["objects"] else None for row in result["rows"]]

    def marks(self, question: Mapping[str, Any], answer: str) -> list[tuple[int, int, str]]:
        found = {}
        for name in read_objects(question.get("reply")) or []:
            objects = [self._vocabulary.object_of(word) for word in self._vocabulary.words([name])]
            for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", answer, re.IGNORECASE) if objects else ():
                good = all(object_ in question["truth"] for object_ in objects)
                found[match.span()] = "good" if good else "bad"
        return [(*span, mark) for span, mark in sorted(found.items())]

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        names = ("objects", "hallucinated", "any_hallucinated", "any_object", "named", "annotated")
        columns = {name: [row[name] if row else 0 for row in result["rows"]] for name in names}
        sums = {name: sums_per_image(result["images"], column) for name, column in columns.items()}
        return {
            "object_halbench_chair_s": (sums["any_hallucinated"], sums["any_object"]),
            "object_halbench_chair_i": (sums["hallucinated"], sums["objects"]),
            "object_halbench_recall": (sums["named"], sums["annotated"]),
        }

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        lines = [
            f"Object HalBench, {len(result['rows'])} answers: {figures(result, ObjectHalBenchBenchmark.metrics)} "
            "(at 300 images the standard error of the recall is about 1.4 points)"
        ]
        if result["unjudged"]:
            lines.append(
                f"{result['unjudged']} answers have no readable list of objects from the judge and are left out."
            )
        if not any(row and row["objects"] for row in result["rows"]):
            lines.append("No answer names an object of the list: CHAIR says nothing. Read them.")
        return lines


def _image(entry: Mapping[str, Any]) -> str:
    """Path of an image: that in `image`, which published rows have as base64, or that of its COCO id."""
    image, number = entry.get("image"), entry["image_id"]
    if isinstance(image, str) and len(image) < 256 and "." in image:
        return image
    digits = str(number).strip()
    return f"COCO_val2014_{int(digits):012d}.jpg" if digits.isdecimal() else digits


def _reply(path: Path, number: int, entry: Mapping[str, Any], answer: str) -> str | None:
    """What the extractor said: a list becomes the reply that has it."""
    found = next((entry[key] for key in ("reply", "objects", "extract_objs", "words") if key in entry), None)
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return json.dumps(found)
    if found is None or isinstance(found, str):
        return "[]" if found is None and is_short(answer) else found
    raise ValueError(f"{path}, entry {number}: `objects` must be a list of names, got {str(found)[:100]}.")
