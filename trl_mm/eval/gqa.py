"""GQA (Hudson and Manning, CVPR 2019): short answers about objects, their attributes and relations in real images."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .answer_files import check_entries, read_entries
from .answer_ids import check_ids, entry_answer, need_file
from .benchmark import Benchmark, Metric, figure
from .gqa_files import GQAQuestion, read_gqa_file, read_llava_questions
from .intervals import bootstrap_ratio, ratio
from .per_image import sums_per_image
from .pope_files import with_suffix


@dataclass(kw_only=True)
class GQABenchmark(Benchmark):
    """
    GQA, asked and scored as LLaVA does. An answer is right if it is the reference once full stops at its end are cut
    and it is in lower case; the authors' `eval.py` compares what it is given, after LLaVA has done that. Accuracy is
    over all questions, and by their structural and semantic type where the data have types; as in `eval.py`, questions
    of the structural type "query" are open, the others binary.

    Questions: testdev_balanced_questions.json in questions1.2.zip, images in images.zip (the page of GQA at Stanford,
    CC BY 4.0). lmms-eval ignores all punctuation and asks for at most 16 tokens, VLMEvalKit cuts spaces and no full
    stop: their figures are nearly the same.

    Args:
        gqa_file (`str`, *optional*): testdev_balanced_questions.json, which has the answers.
        gqa_questions (`str`, *optional*): LLaVA's llava_gqa_testdev_balanced.jsonl, or a part of it: only these
            questions are asked, as they stand there.
        gqa_suffix (`str`, *optional*, defaults to `"Answer the question using a single word or phrase."`): what
            follows each question on a line of its own.
    """

    gqa_file: str | None = None
    gqa_questions: str | None = None
    gqa_suffix: str | None = "Answer the question using a single word or phrase."

    title = "GQA"
    answer_rows = (
        "`answer` and `label`; or `questionId` and `prediction`, or LLaVA's `question_id` and `text`, with "
        "`--file testdev_balanced_questions.json`"
    )
    metrics = {"gqa_accuracy": Metric("accuracy", "higher")}
    score_settings = {"gqa_file": None}

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if not self.gqa_file:
            raise ValueError("`gqa_file` is missing: name testdev_balanced_questions.json, which has the answers.")
        data = read_gqa_file(self.gqa_file)
        if self.gqa_questions:
            asked = read_llava_questions(self.gqa_questions, data, self.gqa_file)
        else:
            asked = {id_: (question.image, question.text) for id_, question in data.items()}
        return [
            {"image": image, "question": with_suffix(text, self.gqa_suffix), "truth": _truth(data[id_])}
            for id_, (image, text) in asked.items()
        ]

    def longest_answer(self, max_new_tokens: int) -> int:
        return min(max_new_tokens, 128)

    def answer_settings(self) -> dict[str, Any]:
        return {"gqa_suffix": self.gqa_suffix}

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        truths = [row["truth"] for row in questions]
        correct = [int(is_right(answer, truth["answer"])) for answer, truth in zip(answers, truths, strict=True)]
        result: dict[str, Any] = {"correct": correct, "images": [row["image"] for row in questions]}
        for kind in ("structural", "semantic"):
            result[kind] = _by_type([truth.get(kind) for truth in truths], correct)
        (part,) = self.metric_parts(result).values()
        interval = bootstrap_ratio(*part, seed=seed)
        return {"gqa_accuracy": ratio(*part), "intervals": {"gqa_accuracy": interval}, **result}

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        entries = read_entries(path)
        if isinstance(entries[0], Mapping) and "label" in entries[0]:
            check_entries(path, entries, ("label",))
            rows = [_generic_row(number, entry) for number, entry in enumerate(entries, start=1)]
        else:
            key = "questionId" if isinstance(entries[0], Mapping) and "questionId" in entries[0] else "question_id"
            check_entries(path, entries, (key,))
            file = need_file(self.gqa_file, "file", "a `label`", path)
            data, answered = read_gqa_file(file), [str(entry[key]) for entry in entries]
            check_ids(path, answered, data, file, "file")
            if len(set(answered)) < len(answered):
                twice = next(id_ for id_ in answered if answered.count(id_) > 1)
                raise ValueError(f"{path} answers a question twice: {twice}. Leave one of the two out.")
            rows = [{"image": data[id_].image, "truth": _truth(data[id_])} for id_ in answered]
        names = ("prediction", "text", "answer")
        return rows, [entry_answer(path, number, entry, names) for number, entry in enumerate(entries, start=1)]

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        scores = {"accuracy": 100 * result["gqa_accuracy"]}
        structural = result["structural"]
        if structural:
            scores["binary"] = _percent([found for name, found in structural.items() if name != "query"])
            scores["open"] = _percent([found for name, found in structural.items() if name == "query"])
        parts = {
            kind: {name: 100 * found["accuracy"] for name, found in result[kind].items()}
            for kind in ("structural", "semantic")
        }
        return scores | {kind: found for kind, found in parts.items() if found}

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        correct = result["correct"]
        above, below = sums_per_image(result["images"], correct, [1] * len(correct))
        return {"gqa_accuracy": (above, below)}

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return list(result["correct"])

    @staticmethod
    def correct(result: Mapping[str, Any]) -> list[int] | None:
        return list(result["correct"])

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        lines = [f"GQA, {len(result['correct'])} questions: accuracy {figure(result, 'gqa_accuracy')}"]
        for kind in ("structural", "semantic"):
            if result[kind]:
                found = ", ".join(f"{name} {part['accuracy']:.1%}" for name, part in result[kind].items())
                lines.append(f"GQA by {kind} type: {found}")
        return lines


def is_right(answer: str, reference: str) -> bool:
    """Whether an answer is the reference, as LLaVA hands answers to the authors' scorer: "Yes." is yes."""
    return answer.rstrip(".").lower() == reference


def _truth(question: GQAQuestion) -> dict[str, str]:
    return {"answer": question.answer, **question.types}


def _generic_row(number: int, entry: Mapping[str, Any]) -> dict[str, Any]:
    types = entry.get("types")
    known = {kind: str(name) for kind, name in (types if isinstance(types, Mapping) else {}).items()}
    image = entry.get("image", entry.get("imageId", f"entry {number}"))
    return {"image": str(image), "truth": {**known, "answer": str(entry["label"]).lower()}}


def _by_type(types: Sequence[str | None], correct: Sequence[int]) -> dict[str, dict[str, float]]:
    """Accuracy and number of the questions of each type, for those that have one."""
    found: dict[str, list[int]] = {}
    for name, right in zip(types, correct, strict=True):
        if name is not None:
            found.setdefault(name, []).append(right)
    return {
        name: {"accuracy": sum(rights) / len(rights), "questions": len(rights)}
        for name, rights in sorted(found.items())
    }


def _percent(parts: Sequence[Mapping[str, float]]) -> float | None:
    asked = sum(part["questions"] for part in parts)
    return 100 * sum(part["accuracy"] * part["questions"] for part in parts) / asked if asked else None
