"""TextVQA (Singh et al., "Towards VQA Models That Can Read", CVPR 2019): questions about the text in an image."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .answer_files import check_entries, read_entries
from .answer_ids import check_ids, entry_answer, need_file
from .benchmark import Benchmark, Metric, figure
from .intervals import bootstrap_ratio, ratio
from .per_image import sums_per_image
from .pope_files import with_suffix
from .textvqa_scores import NUM_REFERENCES, textvqa_accuracy


SUFFIX = "Answer the question using a single word or phrase."


@dataclass(kw_only=True)
class TextVQABenchmark(Benchmark):
    """
    TextVQA, asked as LLaVA-1.6's published figures were: without the words that an OCR system found. LLaVA-1.5's were
    asked with them, so the two are not comparable. Scored by MMF's scorer as LLaVA's evaluation does: ten references,
    a third for each that agrees ([`textvqa_accuracy`]).

    Questions: TextVQA_0.5.1_val.json (textvqa.org, CC BY 4.0); its images are `train_images` of the same page.
    lmms-eval asks with the question in lower case but for its first letter, and VLMEvalKit leaves out a part of the
    normalisation: their figures differ a little.

    Args:
        textvqa_file (`str`, *optional*): TextVQA_0.5.1_val.json, or rows like those under its `data`.
        textvqa_suffix (`str`, *optional*, defaults to `"Answer the question using a single word or phrase."`): what
            follows each question on a line of its own.
    """

    textvqa_file: str | None = None
    textvqa_suffix: str | None = SUFFIX

    title = "TextVQA"
    answer_rows = (
        "`answer` and `answers` (the references); or LLaVA's `question_id`, `prompt` and `text`, or `question_id` and "
        "`answer`, with `--file TextVQA_0.5.1_val.json`"
    )
    metrics = {"textvqa_accuracy": Metric("accuracy", "higher")}
    score_settings = {"textvqa_file": None}

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if not self.textvqa_file:
            raise ValueError("`textvqa_file` is missing: name TextVQA_0.5.1_val.json, which has the questions.")
        return [
            {
                "image": f"{entry['image_id']}.jpg",
                "question": with_suffix(entry["question"], self.textvqa_suffix),
                "truth": entry["answers"],
            }
            for entry in read_textvqa_file(self.textvqa_file)
        ]

    def longest_answer(self, max_new_tokens: int) -> int:
        return min(max_new_tokens, 128)

    def answer_settings(self) -> dict[str, Any]:
        return {"textvqa_suffix": self.textvqa_suffix}

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        accuracies = [textvqa_accuracy(answer, row["truth"]) for row, answer in zip(questions, answers, strict=True)]
        result: dict[str, Any] = {"accuracies": accuracies, "images": [row["image"] for row in questions]}
        result["not_ten"] = sum(len(row["truth"]) != NUM_REFERENCES for row in questions)
        (part,) = self.metric_parts(result).values()
        interval = bootstrap_ratio(*part, seed=seed)
        return {"textvqa_accuracy": ratio(*part), "intervals": {"textvqa_accuracy": interval}, **result}

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        entries = read_entries(path)
        if isinstance(entries[0], Mapping) and "answers" in entries[0]:
            check_entries(path, entries, ("answers",))
            for number, entry in enumerate(entries, start=1):
                check_references(entry["answers"], f"{path}, entry {number}")
            rows = [
                {"image": str(entry.get("image", entry.get("image_id", f"entry {n}"))), "truth": entry["answers"]}
                for n, entry in enumerate(entries, start=1)
            ]
        else:
            check_entries(path, entries, ("question_id",))
            rows = self._found(path, entries)
        return rows, [entry_answer(path, n, entry, ("answer", "text")) for n, entry in enumerate(entries, start=1)]

    def _found(self, path: Path, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of answers that name their questions: by id, or as LLaVA does by image and text."""
        file = need_file(self.textvqa_file, "file", "references (`answers`)", path)
        data = read_textvqa_file(file)
        by_text = {(str(entry["image_id"]), entry["question"].lower()): entry for entry in data}
        asked = [(str(e["question_id"]), asked_question(str(e["prompt"])).lower()) for e in entries if "prompt" in e]
        if asked and asked[0] in by_text:
            check_entries(path, entries, ("prompt",))
            check_ids(path, asked, by_text, file, "file")
            found = [by_text[key] for key in asked]
        else:
            by_id = {str(entry.get("question_id")): entry for entry in data}
            answered = [str(entry["question_id"]) for entry in entries]
            check_ids(path, answered, by_id, file, "file")
            found = [by_id[key] for key in answered]
        return [{"image": f"{entry['image_id']}.jpg", "truth": entry["answers"]} for entry in found]

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {"accuracy": result["textvqa_accuracy"], "samples": len(result["accuracies"])}

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        accuracies = result["accuracies"]
        above, below = sums_per_image(result["images"], accuracies, [1] * len(accuracies))
        return {"textvqa_accuracy": (above, below)}

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return list(result["accuracies"])

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        lines = [f"TextVQA, {len(result['accuracies'])} questions: accuracy {figure(result, 'textvqa_accuracy')}"]
        if result.get("not_ten"):
            lines.append(
                f"TextVQA: {result['not_ten']} questions do not have ten references, and the published scorer takes "
                "no others: its third for each that agrees is meant for ten. Give TextVQA's own."
            )
        return lines


def read_textvqa_file(file: str | Path) -> list[dict[str, Any]]:
    """Questions with their references, as TextVQA publishes them (`list[dict[str, Any]]`)."""
    path = Path(file)
    entries = read_entries(path, "`textvqa_file`")
    if len(entries) == 1 and isinstance(entries[0], Mapping) and isinstance(entries[0].get("data"), list):
        entries = entries[0]["data"]
    check_entries(path, entries, ("image_id", "question", "answers"))
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry["question"], str):
            raise ValueError(f"{path}, entry {number}: `question` must be a text, got {entry['question']!r}.")
        check_references(entry["answers"], f"{path}, entry {number}")
    return entries


def check_references(references: Any, where: str) -> None:
    """Refuses what is no list of texts."""
    if not (isinstance(references, list) and references and all(isinstance(text, str) for text in references)):
        raise ValueError(f"{where}: `answers` must be a list of the references' texts, got {str(references)[:200]}.")


def asked_question(prompt: str) -> str:
    """The question (`str`) in a prompt of LLaVA's evaluation, which puts words of an OCR system before or after it."""
    if prompt.startswith("OCR tokens: ") and (match := re.search(r"Question: (.*?) Short answer:", prompt, re.DOTALL)):
        return match[1]
    lines = prompt.split("\n")
    return lines[1] if len(lines) > 2 and lines[0].startswith("Reference OCR token:") else lines[0]
