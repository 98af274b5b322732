"""LLaVA-Bench in the Wild (Liu et al., "Visual Instruction Tuning", NeurIPS 2023): 60 open questions on 24 images."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.shown import shown
from .answer_files import check_entries, read_entries
from .benchmark import Ask, Benchmark, Metric
from .intervals import bootstrap_ratio
from .judged import json_object, judged_column, read_data, reply_text, same_ids, unjudged_lines
from .llava_bench_scores import (
    CATEGORIES,
    LARGEST,
    Pair,
    llava_bench_scores,
    nothing_read,
    read_pair,
    relative_parts,
)
from .llava_bench_wording import ROLE, RULE, SYSTEM, review_question


CURE = (
    "`llava_bench_data` is the folder of liuhaotian/llava-bench-in-the-wild, with questions.jsonl, context.jsonl and "
    "answers_gpt4.jsonl."
)


@dataclass(kw_only=True)
class LlavaBenchBenchmark(Benchmark):
    """
    LLaVA-Bench in the Wild (arXiv 2304.08485). The question is asked as it is, greedily. A judge (gpt-4-0314 in
    published figures, text only) reads a description of the image, GPT-4's answer and the model's, and scores both;
    the result is the model's mean score as a percentage of GPT-4's. A review without two scores in its first line
    counts as -1 for both in these means, as published. In published reviews the recorded scores (`tuple`) count.

    Data and images: liuhaotian/llava-bench-in-the-wild on the Hub. The judge's instruction is that of `rule.json` (in
    LLaVA's repository, llava/eval/table), where the data's folder has it; ours otherwise. lmms-eval asks another
    judge without the system message, so its scores are not those of papers.

    Args:
        llava_bench_data (`str`, *optional*): folder of LLaVA-Bench in the Wild with questions.jsonl, context.jsonl
            and answers_gpt4.jsonl, and with rule.json if the judge is to have the published instruction.
    """

    llava_bench_data: str | None = None

    title = "LLaVA-Bench (Wild)"
    answer_rows = "a review as published: `content` (or `tuple`, two scores), `category`"
    metrics = {
        "llava_bench": Metric("relative score", "higher"),
        **{f"llava_bench_{name}": Metric(f"relative score, {name}", "higher") for name in CATEGORIES},
    }
    default_length = 1024
    judge_options = {"temperature": 0.2, "max_tokens": 1024}
    judge_system = SYSTEM

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if self.llava_bench_data is None:
            raise ValueError(f"`llava_bench_data` is missing. {CURE}")
        asked = self._read("questions.jsonl", "question_id", "image", "text", "category")
        contexts = {row["image"]: row["caption"] for row in self._read("context.jsonl", "image", "caption")}
        references = {
            row["question_id"]: row["text"] for row in self._read("answers_gpt4.jsonl", "question_id", "text")
        }
        self._rules()
        same_ids(references, (row["question_id"] for row in asked), "answers of GPT-4", "questions.jsonl")
        same_ids((row["image"] for row in asked), contexts, "images of questions.jsonl", "context.jsonl")
        return [
            {
                "image": row["image"],
                "question": row["text"],
                "question_id": row["question_id"],
                "category": _full(row["category"]),
                "truth": {"context": contexts[row["image"]], "reference": references[row["question_id"]]},
            }
            for row in asked
        ]

    def _read(self, name: str, *needed: str) -> list[dict[str, Any]]:
        return read_data(Path(self.llava_bench_data or "") / name, "llava_bench_data", needed, CURE)

    def _rules(self) -> dict[str, Any]:
        """Role and instruction of each category, `{}` for ours."""
        path = Path(self.llava_bench_data or "") / "rule.json"
        if not path.exists():
            return {}
        rules = json_object(path, "llava_bench_data", CURE)
        for name in map(_full, CATEGORIES):
            check_entries(path, [rules.get(name)], ("role", "prompt"))
        return rules

    def judge(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], ask: Ask) -> list[dict[str, Any]]:
        rules, texts = self._rules(), []
        for row, answer in zip(questions, answers, strict=True):
            rule = rules.get(row["category"], {"role": ROLE, "prompt": RULE})
            truth = row["truth"]
            texts.append(
                review_question(
                    truth["context"], row["question"], truth["reference"], answer, rule["role"], rule["prompt"]
                )
            )
        return [{"reply": reply} for reply in ask([(text, []) for text in texts])]

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        replies = judged_column(questions, "reply", self.title)
        said: list[Pair | None] = [None if reply is None else read_pair(reply) for reply in replies]
        # The published summary takes the recorded pair, which its authors set by hand in some files
        recorded: list[Pair | None] = [row.get("recorded") for row in questions]
        pairs = [one or other for one, other in zip(recorded, said, strict=True)]
        result = llava_bench_scores([row["category"] for row in questions], [row["image"] for row in questions], pairs)
        result["other_records"] = sum(pair != one is not None for pair, one in zip(pairs, said, strict=True))
        parts = self.metric_parts(result)
        return {**result, "intervals": {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}}

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        rows = []
        for number, entry in enumerate(read_entries(path), start=1):
            check = f"{path}, entry {number}"
            if not isinstance(entry, dict):
                raise ValueError(f"{check}: needs {self.answer_rows}, got {shown(entry, 200)}.")
            reply, pair = entry.get("content", entry.get("text")), entry.get("tuple", entry.get("score"))
            if reply is None and pair is None and not {"content", "text"} & entry.keys():
                raise ValueError(f"{check}: needs {self.answer_rows}, got {shown(entry, 200)}.")
            category = entry.get("category")
            rows.append(
                {
                    "image": str(entry.get("image", check)),
                    "question_id": entry.get("question_id", number),
                    "category": None if category is None else str(category),
                    "reply": self._reply(check, reply),
                    "recorded": None if pair is None else _pair(check, pair),
                }
            )
        return rows, [""] * len(rows)

    @staticmethod
    def _reply(place: str, value: Any) -> str | None:
        try:
            return reply_text(value)
        except ValueError as error:
            raise ValueError(f"{place}: {error}, got {shown(value, 200)}.") from None

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        scores = result["scores"]
        return {
            **{name: found["relative"] for name, found in scores.items()},
            "mean_scores": {
                name: {side: found[side] for side in ("reference", "model")} for name, found in scores.items()
            },
            "unreadable": result["unreadable"],
            "unjudged": sum(pair is None for pair in result["pairs"]),
        }

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        if nothing_read(result):
            return {}
        parts = {"llava_bench": relative_parts(result)}
        for name in CATEGORIES:
            if {name, _full(name)} & set(result["categories"]):
                parts[_full(name)] = relative_parts(result, name)
        return parts

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return [None if pair is None else pair[1] for pair in result["pairs"]]

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        scores, title = result["scores"], LlavaBenchBenchmark.title
        if nothing_read(result):
            return [
                f"{title}: none of {len(result['pairs'])} reviews has two scores in its first line, so there is no "
                "score; the published script would say 100. Look at what the judge writes."
            ]
        low, high = (100 * end for end in result["intervals"]["llava_bench"])
        parts = ", ".join(f"{name} {found['relative']:.1f}" for name, found in scores.items() if name != "all")
        overall = scores["all"]
        lines = [
            f"{title}, {len(result['pairs'])} reviews: {overall['relative']:.1f} % of GPT-4's score "
            f"[{low:.1f}, {high:.1f}], which is {overall['model']:.2f} of {overall['reference']:.2f}"
            + (f"; {parts}" if parts else "")
        ]
        if result["other_records"]:
            lines.append(
                f"{title}: {result['other_records']} reviews say other scores than their `tuple`, which counts."
            )
        return lines + unjudged_lines(title, result["pairs"], result["unreadable"], "they are -1 to -1 in the means")


def _full(category: str) -> str:
    return category if category.startswith("llava_bench_") else f"llava_bench_{category}"


def _pair(place: str, value: Any) -> Pair:
    if not (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
        and all(abs(number) <= LARGEST for number in value)
    ):
        raise ValueError(f"{place}: `tuple` must be two numbers, got {shown(value, 200)}.")
    return [float(value[0]), float(value[1])]
