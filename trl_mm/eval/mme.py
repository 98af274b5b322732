"""MME (Fu et al., arXiv 2306.13394): two yes-or-no questions about each image, one for yes and one for no."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .answer_files import as_answer, check_entries, read_entries
from .answer_ids import need_file
from .benchmark import Benchmark, Metric
from .intervals import bootstrap_ratio, ratio
from .mme_files import (
    COGNITION,
    PERCEPTION,
    TASKS,
    mme_label,
    read_llava_answers,
    read_mme_data,
    read_mme_results,
)
from .pope_files import with_suffix


GROUPS = {"mme_perception": PERCEPTION, "mme_cognition": COGNITION}


@dataclass(kw_only=True)
class MMEBenchmark(Benchmark):
    """
    MME, asked as its authors do and scored by their rule. The score of a task is 100 times its accuracy and 100 times
    its accuracy+, the share of images both of whose questions are right; perception is the sum of ten tasks (2,000 at
    best), cognition that of four (800). Of an answer the first four characters count, in lower case: a yes among them,
    or else a no, so that "Eyes" is yes and "Not sure" is no; anything else is wrong. Tasks that are not there add
    nothing.

    Questions and images: MME_Benchmark_release_version, from the authors on request (the branch Evaluation of
    github.com/BradyFU/Awesome-Multimodal-Large-Language-Models). LLaVA asks with "Answer the question using a single
    word or phrase." in place of their "Please answer yes or no."; lmms-eval and VLMEvalKit read answers a little
    differently.

    Args:
        mme_data (`str`, *optional*): folder MME_Benchmark_release_version, which is the image folder too.
        mme_suffix (`str`, *optional*): what follows each question on a line of its own.
    """

    mme_data: str | None = None
    mme_suffix: str | None = None

    title = "MME"
    answer_rows = (
        "a folder of the published TASK.txt files; or rows with `task`, `image`, `answer` and `label`; or LLaVA's "
        "`question_id`, `prompt` and `text`, with `--data MME_Benchmark_release_version`"
    )
    metrics = {
        "mme_perception": Metric("perception", "higher", scale=200.0 * len(PERCEPTION)),
        "mme_cognition": Metric("cognition", "higher", scale=200.0 * len(COGNITION)),
    }
    score_settings = {"mme_data": None}

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if not self.mme_data:
            raise ValueError("`mme_data` is missing: name the folder MME_Benchmark_release_version.")
        rows = read_mme_data(self.mme_data)
        _check_pairs(rows, f"`mme_data` ({self.mme_data})")
        return [
            {
                "image": row["image"],
                "question": with_suffix(row["question"], self.mme_suffix),
                "truth": {"task": row["task"], "label": row["label"]},
            }
            for row in rows
        ]

    def longest_answer(self, max_new_tokens: int) -> int:
        return min(max_new_tokens, 128)

    def answer_settings(self) -> dict[str, Any]:
        return {"mme_suffix": self.mme_suffix} if self.mme_suffix else {}

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        truths = [row["truth"] for row in questions]
        read = [mme_reading(answer) for answer in answers]
        result: dict[str, Any] = {
            "correct": [int(said == truth["label"]) for said, truth in zip(read, truths, strict=True)],
            "unreadable": [int(said == "other") for said in read],
            "tasks": [truth["task"] for truth in truths],
            "pairs": [row["truth"].get("pair", f"{row['truth']['task']} {row['image']}") for row in questions],
        }
        parts = {name: ([above], [below]) for name, (above, below) in self.metric_parts(result).items()}
        intervals = {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}
        return {**{name: ratio(*part) for name, part in parts.items()}, "intervals": intervals, **result}

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        if path.is_dir():
            rows, answers = read_mme_results(path)
        else:
            entries = read_entries(path)
            if isinstance(entries[0], Mapping) and "question_id" in entries[0] and "label" not in entries[0]:
                folder = need_file(self.mme_data, "data", "a `label`", path)
                rows, answers = read_llava_answers(path, entries, read_mme_data(folder), folder)
            else:
                rows, answers = _generic(path, entries)
            _check_pairs(rows, str(path))
        keys = ("task", "label", "pair")
        return [{"image": row["image"], "truth": {k: row[k] for k in keys if k in row}} for row in rows], answers

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        tasks = task_scores(result)
        sums = {
            name.removeprefix("mme_"): sum(tasks[task]["score"] for task in known if task in tasks)
            for name, known in GROUPS.items()
            if name in result
        }
        return {**sums, "total": sum(sums.values()), "tasks": tasks}

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        pairs = _pairs(result)
        parts = {}
        for name, known in GROUPS.items():
            if not any(task in known for task, _, _ in pairs.values()):
                continue
            above, below = [], []
            for task in known:
                counts = [(right, asked) if other == task else (0, 0) for other, right, asked in pairs.values()]
                above += [[right for right, _ in counts], [int(right == 2) for right, _ in counts]]
                below += [[asked for _, asked in counts], [int(asked > 0) for _, asked in counts]]
            parts[name] = (above, below)
        return parts

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return list(result["correct"])

    @staticmethod
    def correct(result: Mapping[str, Any]) -> list[int] | None:
        return list(result["correct"])

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        asked, unreadable = len(result["correct"]), sum(result["unreadable"])
        shown = [
            f"{metric.label} {metric.scale * result[name]:.1f} "
            f"[{', '.join(f'{metric.scale * end:.1f}' for end in result['intervals'][name])}] of {metric.scale:.0f}"
            for name, metric in MMEBenchmark.metrics.items()
            if name in result
        ]
        tasks = task_scores(result)
        lines = [
            f"MME, {asked} questions: {', '.join(shown)}, neither yes nor no {unreadable} ({unreadable / asked:.1%}), "
            "taken for wrong",
            "MME by task: " + ", ".join(f"{task} {found['score']:.1f}" for task, found in tasks.items()),
        ]
        missing = [task for task in TASKS if task not in tasks]
        if missing:
            lines.append(f"MME lacks {len(missing)} of its tasks, which add nothing: {', '.join(missing)}.")
        if unreadable > asked / 2:
            lines.append("Most answers are neither yes nor no. Read them.")
        return lines


def mme_reading(answer: str) -> str:
    """What the authors' script reads in an answer: `"yes"`, `"no"` or `"other"`."""
    start = answer.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def task_scores(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """For each task its score, accuracy and accuracy+ in percent, and the number of answers that cannot be read."""
    pairs = _pairs(result)
    found = {}
    for task in TASKS:
        counts = [(right, asked) for other, right, asked in pairs.values() if other == task]
        if counts:
            accuracy = 100 * sum(right for right, _ in counts) / sum(asked for _, asked in counts)
            plus = 100 * sum(right == 2 for right, _ in counts) / len(counts)
            other = sum(n for t, n in zip(result["tasks"], result["unreadable"], strict=True) if t == task)
            found[task] = {"score": accuracy + plus, "acc": accuracy, "acc_plus": plus, "other_num": other}
    return found


def _pairs(result: Mapping[str, Any]) -> dict[str, tuple[str, int, int]]:
    """Task, number of right answers and number of answers of each image."""
    pairs: dict[str, tuple[str, int, int]] = {}
    for pair, task, right in zip(result["pairs"], result["tasks"], result["correct"], strict=True):
        _, rights, asked = pairs.get(pair, (task, 0, 0))
        pairs[pair] = (task, rights + right, asked + 1)
    return pairs


def _generic(path: Path, entries: Sequence[Any]) -> tuple[list[dict[str, str]], list[str]]:
    check_entries(path, entries, ("task", "image", "answer", "label"))
    rows, answers = [], []
    for number, entry in enumerate(entries, start=1):
        if entry["task"] not in TASKS:
            known = ", ".join(TASKS)
            raise ValueError(f"{path}, entry {number}: `task` must be one of {known}, got {entry['task']!r}.")
        label = mme_label(entry["label"], f"{path}, entry {number}")
        rows.append({"task": entry["task"], "image": str(entry["image"]), "label": label})
        answers.append(as_answer(path, number, entry["answer"]))
    return rows, answers


def _check_pairs(rows: Sequence[Mapping[str, str]], where: str) -> None:
    counts = Counter((row["task"], row["image"]) for row in rows)
    odd = [f"{task} {image} has {count}" for (task, image), count in counts.items() if count != 2]
    if odd:
        raise ValueError(
            f"{where}: MME has two questions about each image. {len(odd)} images have another number, the first: "
            f"{odd[0]}. Complete them."
        )
