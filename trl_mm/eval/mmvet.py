"""MM-Vet (Yu et al., "MM-Vet: Evaluating Large Multimodal Models for Integrated Capabilities", ICML 2024)."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .benchmark import Ask, Benchmark, Metric
from .intervals import bootstrap_ratio
from .judged import judged_column, unjudged_lines
from .mmvet_grades import CURE, read_grades, read_mmvet
from .mmvet_scores import CAPABILITIES, mmvet_parts, mmvet_scores, read_grade
from .mmvet_wording import AGAIN, table_question


# Temperature of each try: the first as published, the others with the appended request, the first of them still at 0
TRIES = (None, 0.0, 0.5, 1.0, 1.5)


@dataclass(kw_only=True)
class MMVetBenchmark(Benchmark):
    """
    MM-Vet (arXiv 2308.02490): 218 open questions, each needing one or more of six capabilities. The question is asked
    as it is, greedily. A judge (gpt-4-0613 in published figures, text only) grades the answer from 0 to 1 by the
    ground truth; the score is the mean over answers and over five runs of the judge. A reply without a grade is asked
    for again four times, with a further line and rising temperature; what has none then counts as 0, as published.

    Runs after the first have a `seed` in the request, so that a cache of replies does not make them the same.

    Data and images: mm-vet.zip of github.com/yuweihao/MM-Vet. lmms-eval asks for reasoning first and samples, so its
    scores are not those of papers; VLMEvalKit is close.

    Args:
        mmvet_file (`str`, *optional*): mm-vet.json, which says what each question needs; the image folder is the
            `images` beside it.
        mmvet_runs (`int`, *optional*, defaults to `5`): how often the judge grades each answer.
    """

    mmvet_file: str | None = None
    mmvet_runs: int = 5

    title = "MM-Vet"
    answer_rows = (
        "the evaluator's `*-grade-*.json`, with `--file mm-vet.json` for capabilities; or rows of `id`, `score` (a "
        "number from 0 to 1, or one for each run), and if there is one `capability`"
    )
    metrics = {
        "mmvet": Metric("total", "higher"),
        **{f"mmvet_{name}": Metric(name, "higher") for name in CAPABILITIES},
    }
    score_settings = {"mmvet_file": None}
    default_length = 1024
    judge_options = {"temperature": 0.0, "max_tokens": 3}

    def __post_init__(self) -> None:
        if not isinstance(self.mmvet_runs, int) or self.mmvet_runs < 1:
            raise ValueError(f"`mmvet_runs` must be at least 1 and whole, got {self.mmvet_runs!r}.")

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if self.mmvet_file is None:
            raise ValueError(f"`mmvet_file` is missing. {CURE}")
        return [
            {
                "image": entry["imagename"],
                "question": entry["question"],
                "id": id_,
                "truth": {"answer": entry["answer"], "capability": entry["capability"]},
            }
            for id_, entry in read_mmvet(Path(self.mmvet_file)).items()
        ]

    def judge(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], ask: Ask) -> list[dict[str, Any]]:
        texts = [
            table_question(row["question"], row["truth"]["answer"], answer)
            for row, answer in zip(questions, answers, strict=True)
        ]
        columns: list[dict[str, Any]] = [{"replies": [], "grades": []} for _ in texts]
        for run in range(self.mmvet_runs):
            for column, (reply, grade) in zip(columns, _run(texts, run, ask), strict=True):
                column["replies"].append(reply)
                column["grades"].append(grade)
        return columns

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        needs = [row["truth"]["capability"] for row in questions]
        grades = judged_column(questions, "grades", self.title)
        result = mmvet_scores([row["image"] for row in questions], needs, grades)
        result["unreadable"] = sum(_unreadable(row) for row in questions)
        parts = self.metric_parts(result)
        return {**result, "intervals": {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}}

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        data = None if self.mmvet_file is None else read_mmvet(Path(self.mmvet_file))
        rows = [{**row, "truth": {"capability": row["capability"]}} for row in read_grades(path, data)]
        return rows, [""] * len(rows)

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "total": result["total"],
            **result["capabilities"],
            "std": result["std"],
            "runs": result["runs"],
            "capability_sets": result["sets"],
            "unjudged": sum(mean is None for mean in result["means"]),
        }

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        known = [name for name in CAPABILITIES if name in result["capabilities"]]
        return {"mmvet": mmvet_parts(result), **{f"mmvet_{name}": mmvet_parts(result, name) for name in known}}

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return result["means"]

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        low, high = (100 * end for end in result["intervals"]["mmvet"])
        title, runs = MMVetBenchmark.title, result["runs"]
        spread = f", ± {result['std']:.1f} over {len(runs)} runs of the judge" if len(runs) > 1 else ""
        lines = [
            f"{title}, {len(result['means'])} answers: total {result['total']:.1f} [{low:.1f}, {high:.1f}]{spread}"
        ]
        for what, scores in (("capability", result["capabilities"]), ("exact set", result["sets"])):
            if scores:
                shown = ", ".join(f"{name} {score:.1f}" for name, score in scores.items())
                lines.append(f"{title} by {what}: {shown}")
        if not result["capabilities"]:
            lines.append(f"{title}: no answer says what it needs. Give mm-vet.json as `--file` for its capabilities.")
        return lines + unjudged_lines(title, result["means"], result["unreadable"], "they are graded 0", len(runs))


def _run(texts: Sequence[str], run: int, ask: Ask) -> list[tuple[str | None, float | None]]:
    """Last reply and grade of each answer in one run: 0.0 where the last try has none either, as published."""
    seed = {"seed": run} if run else {}
    found: list[tuple[str | None, float | None]] = [(None, None)] * len(texts)
    waiting = list(range(len(texts)))
    for temperature in TRIES:
        if not waiting:
            break
        warmer = {} if temperature is None else {"temperature": temperature}
        appended = "" if temperature is None else AGAIN
        replies = ask([(texts[index] + appended, []) for index in waiting], **warmer, **seed)
        for index, reply in zip(waiting, replies, strict=True):
            found[index] = (reply, None if reply is None else read_grade(reply))
        waiting = [index for index in waiting if found[index][0] is not None and found[index][1] is None]
    return [(reply, 0.0 if reply is not None and grade is None else grade) for reply, grade in found]


def _unreadable(row: Mapping[str, Any]) -> int:
    return sum(reply is not None and read_grade(reply) is None for reply in row.get("replies", ()))
