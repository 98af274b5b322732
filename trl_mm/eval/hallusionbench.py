"""
HallusionBench (Guan et al., CVPR 2024): yes-or-no questions about charts, maps, illusions and the like, each also
about an edited figure, where the answer may be another one.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .answer_files import check_entries, read_entries
from .answer_ids import check_ids, entry_answer, need_file
from .benchmark import Benchmark, Metric, figure, figures
from .hallusionbench_scores import KEYS, UNCERTAIN, all_right, hallusion_correctness, hallusion_groups, is_correct
from .intervals import bootstrap_ratio, ratio
from .per_image import sums_per_image
from .pope_files import with_suffix


JUDGED = ("correctness", "gpt4v_output_gpt_check")  # columns in which the published scorer keeps what its judge said


@dataclass(kw_only=True)
class HallusionBenchmark(Benchmark):
    """
    HallusionBench, its yes-or-no answers without a judge. The authors have GPT-4 say of each answer whether it is
    right (1), wrong (0) or unclear (2); rows that carry this (`correctness`, or `gpt4v_output_gpt_check`) are scored
    by it, and the numbers are then those of the published scorer. Without, an answer is read by its first word, and
    one that is neither yes nor no is wrong and counted apart.

    aAcc is the share of right answers, fAcc that of figures all of whose questions are right, qAcc that of questions
    that are right about all figures of a set; easy and hard are qAcc among the original and among the edited figures.
    Being unclear is right where there is no figure to look at. The yes percentage difference takes a wrong answer to a
    question whose answer is no for a yes, also one that is unclear, as published.

    Questions: HallusionBench.json of github.com/tianyi-lab/HallusionBench (BSD-3-Clause), which links the figures.
    `trl-mm eval` asks those with a figure only, 951 of 1,129, as VLMEvalKit does: its aAcc and qAcc are over these.
    lmms-eval has GPT judge.

    Args:
        hallusionbench_file (`str`, *optional*): HallusionBench.json. For answers without `gt_answer` too.
        hallusionbench_suffix (`str`, *optional*): what follows each question on a line of its own. VLMEvalKit's is
            "Please answer yes or no.".
    """

    hallusionbench_file: str | None = None
    hallusionbench_suffix: str | None = None

    title = "HallusionBench"
    answer_rows = (
        "HallusionBench.json's own rows with `model_prediction` (or `answer`), and if a judge looked at it "
        "`correctness` (0, 1 or 2); `--file HallusionBench.json` where they lack `gt_answer`"
    )
    metrics = {
        "hallusionbench_aacc": Metric("aAcc", "higher"),
        "hallusionbench_facc": Metric("fAcc", "higher"),
        "hallusionbench_qacc": Metric("qAcc", "higher"),
        "hallusionbench_easy": Metric("easy", "higher"),
        "hallusionbench_hard": Metric("hard", "higher"),
        "hallusionbench_yes_share": Metric("says yes", "neither"),
    }
    score_settings = {"hallusionbench_file": None}

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        if not self.hallusionbench_file:
            raise ValueError("`hallusionbench_file` is missing: name HallusionBench.json, which has the questions.")
        rows = _read_data(self.hallusionbench_file)
        seen = [row for row in rows if row.get("filename")]
        if not seen:
            raise ValueError(f"`hallusionbench_file` ({self.hallusionbench_file}) has no question with a `filename`.")
        return [
            {
                "image": str(PurePosixPath(row["filename"])),
                "question": with_suffix(row["question"], self.hallusionbench_suffix),
                "truth": _truth(row),
            }
            for row in seen
        ]

    def longest_answer(self, max_new_tokens: int) -> int:
        return min(max_new_tokens, 128)

    def answer_settings(self) -> dict[str, Any]:
        return {"hallusionbench_suffix": self.hallusionbench_suffix}

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        truths = [row["truth"] for row in questions]
        read = [
            truth.get("correctness", hallusion_correctness(answer, truth["label"]))
            for truth, answer in zip(truths, answers, strict=True)
        ]
        correct = [is_correct(truth, found) for truth, found in zip(truths, read, strict=True)]
        labels = [truth["label"] for truth in truths]
        result: dict[str, Any] = {
            "correct": correct,
            "labelled_yes": labels,
            "predicted_yes": [int(right == label) for right, label in zip(correct, labels, strict=True)],
            "groups": hallusion_groups(truths),
            "judged": sum("correctness" in truth for truth in truths),
            "unreadable": sum(found is None for found in read),
            "uncertain": sum(found == UNCERTAIN for found in read),
        }
        parts = self.metric_parts(result)
        figures_ = {name: ratio(*part) for name, part in parts.items()}
        intervals = {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()}
        return {**figures_, "intervals": intervals, **result}

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        entries = read_entries(path)
        check_entries(path, entries, KEYS)
        _check_once(path, entries)
        if all("gt_answer" in entry for entry in entries):
            check_entries(path, entries, ("gt_answer", "visual_input"))
            known = entries
        else:
            file = need_file(self.hallusionbench_file, "file", "`gt_answer`", path)
            data = {_key(row): row for row in _read_data(file)}
            check_ids(path, map(_key, entries), data, file, "file")
            known = [data[_key(entry)] for entry in entries]
        rows = []
        for number, (entry, row) in enumerate(zip(entries, known, strict=True), start=1):
            where = f"{path}, entry {number}"
            truth = _truth({**row, "gt_answer": _number(row["gt_answer"], "gt_answer", (0, 1), where)})
            judged = next((entry[name] for name in JUDGED if entry.get(name) is not None), None)
            if judged is not None:
                truth["correctness"] = _number(judged, "correctness", (0, 1, 2), where)
            rows.append({"image": str(row.get("filename") or "_".join(_key(row)[:4])), "truth": truth})
        names = ("model_prediction", "answer")
        return rows, [entry_answer(path, number, entry, names) for number, entry in enumerate(entries, start=1)]

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        wrong = [label for right, label in zip(result["correct"], result["labelled_yes"], strict=True) if not right]
        asked = len(result["correct"])
        names = {"aAcc": "aacc", "fAcc": "facc", "qAcc": "qacc", "easy aAcc": "easy", "hard aAcc": "hard"}
        shares = {shown: round(100 * result[f"hallusionbench_{name}"], 4) for shown, name in names.items()}
        return {
            **shares,
            "yes_pct_diff": sum(result["predicted_yes"]) / asked - sum(result["labelled_yes"]) / asked,
            "fp_ratio": (len(wrong) - sum(wrong)) / len(wrong) if wrong else None,
            "unreadable": result["unreadable"],
            "judged": result["judged"],
        }

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        correct, groups = result["correct"], result["groups"]
        right, said, asked = sums_per_image(groups["set"], correct, result["predicted_yes"], [1] * len(correct))
        names = {"facc": "figure", "qacc": "pair", "easy": "easy", "hard": "hard"}
        wholes = {
            f"hallusionbench_{name}": all_right(groups[group], groups["set"], correct) for name, group in names.items()
        }
        return {"hallusionbench_aacc": (right, asked), **wholes, "hallusionbench_yes_share": (said, asked)}

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return list(result["correct"])

    @staticmethod
    def correct(result: Mapping[str, Any]) -> list[int] | None:
        return list(result["correct"])

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        asked, labelled = len(result["correct"]), sum(result["labelled_yes"])
        names = ["hallusionbench_facc", "hallusionbench_qacc", "hallusionbench_easy", "hallusionbench_hard"]
        how = f"read by a judge {result['judged']}, neither yes nor no {result['unreadable']}, taken for wrong"
        lines = [
            f"HallusionBench, {asked} questions: aAcc {figure(result, 'hallusionbench_aacc')}, "
            f"{figures(result, names).replace('hallusionbench_', '').replace('acc', 'Acc')}",
            f"HallusionBench: says yes {figure(result, 'hallusionbench_yes_share')}, {labelled / asked:.1%} would be "
            f"right; {how}",
        ]
        if result["unreadable"] > asked / 2:
            lines.append("Most answers are neither yes nor no. Read them.")
        return lines


def _read_data(file: str) -> list[dict[str, Any]]:
    path = Path(file)
    rows = read_entries(path, "`hallusionbench_file`")
    check_entries(path, rows, (*KEYS, "visual_input", "question", "gt_answer"))
    _check_once(path, rows)
    return [
        {**row, "gt_answer": _number(row["gt_answer"], "gt_answer", (0, 1), f"{path}, entry {number}")}
        for number, row in enumerate(rows, start=1)
    ]


def _truth(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": row["gt_answer"], **{key: str(row[key]) for key in (*KEYS, "visual_input")}}


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in KEYS)


def _check_once(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    found: set[tuple[str, ...]] = set()
    for number, row in enumerate(rows, start=1):
        if _key(row) in found:
            raise ValueError(f"{path}, entry {number}: the question {' '.join(_key(row))} comes twice.")
        found.add(_key(row))


def _number(value: Any, name: str, known: Sequence[int], where: str) -> int:
    """A number of a published file, which may be a text there (`int`)."""
    if str(value).strip() not in map(str, known):
        raise ValueError(f"{where}: `{name}` must be one of {', '.join(map(str, known))}, got {str(value)[:200]!r}.")
    return int(value)
