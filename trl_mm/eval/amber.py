"""
AMBER (Wang et al., "AMBER: An LLM-free Multi-dimensional Benchmark for MLLMs Hallucination Evaluation",
arXiv 2311.07397): descriptions, and yes-or-no questions on existence, attributes and relations, of 1,004 images.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from .amber_files import PARTS, AmberData, read_amber, read_responses
from .amber_nouns import load_similarity, nouns
from .amber_scores import Answered, answer_scores, describe
from .benchmark import Benchmark, Metric, figures
from .image_names import sums_per_image
from .intervals import bootstrap_ratio, ratio
from .pope_files import with_suffix
from .pope_scores import parse_yes_no


READINGS = ("published", "strict")
GENERATIVE = {"hal": "described", "cover": "objects", "cog": "expected", "chair": "nouns"}


@dataclass(kw_only=True)
class AmberBenchmark(Benchmark):
    """
    AMBER: CHAIR, coverage, share of hallucinating descriptions and "cognition" of descriptions; accuracy, precision,
    recall and F1 of yes-or-no answers, with no as the positive class. Data and images: junyangwang0410/AMBER. The
    published scores are rounded as its script rounds, with its additions below the line. All questions on existence
    are answered by no, so precision and F1 say nothing there. lmms-eval has the descriptions only, with other
    vectors where the published ones are missing; VLMEvalKit has the accuracy only, and adds a suffix.

    Args:
        amber_data (`str`, *optional*): AMBER's folder `data`: annotations.json, relation.json, safe_words.txt and,
            for asking, its queries.
        amber_parts (`list[str]`, *optional*): what to ask or score: `generative`, `existence`, `attribute`,
            `relation`; all by default.
        amber_reading (`str`, *optional*): how yes-or-no answers are read. `"published"`, the default for scores of
            files, takes exactly "Yes" and "No", and all else for wrong; `"strict"`, the default for asking, reads the
            first word, as for POPE.
        amber_suffix (`str`, *optional*): what follows each yes-or-no question on a line of its own; none as published.
        amber_vectors (`str`, *optional*): pipeline of spaCy whose word vectors say that two nouns mean the same. By
            default the published en_core_web_lg where it is installed; `"none"` for none. Without vectors only equal
            words count, and figures of descriptions are not the published ones.
    """

    amber_data: str | None = None
    amber_parts: list[str] | None = None
    amber_reading: Literal["published", "strict"] | None = None
    amber_suffix: str | None = None
    amber_vectors: str | None = None

    title = "AMBER"
    answer_rows = "`id` and `response`; truths and words come from `--data FOLDER`"
    metrics = {
        "amber_score": Metric("AMBER", "higher"),
        "amber_chair": Metric("CHAIR", "lower"),
        "amber_cover": Metric("cover", "higher"),
        "amber_hal": Metric("hal", "lower"),
        "amber_cog": Metric("cog", "lower"),
        "amber_f1": Metric("F1", "higher"),
        "amber_accuracy": Metric("accuracy", "higher"),
    }
    score_settings = {
        "amber_data": None,
        "amber_parts": None,
        "amber_reading": "published",
        "amber_vectors": None,
    }

    def __post_init__(self) -> None:
        if self.amber_reading not in (None, *READINGS):
            raise ValueError(f"`amber_reading` must be one of {', '.join(READINGS)}, got {self.amber_reading!r}.")
        unknown = [part for part in self.amber_parts or () if part not in PARTS]
        if unknown:
            raise ValueError(f"`amber_parts` has no {unknown[0]!r}. Known: {', '.join(PARTS)}.")

    @cached_property
    def _data(self) -> AmberData:
        if self.amber_data is None:
            raise ValueError(
                "`amber_data` is missing (`--data` of `trl-mm score`): give the folder data of junyangwang0410/AMBER."
            )
        return read_amber(self.amber_data)

    @cached_property
    def _similar(self) -> tuple[Any, str | None]:
        return load_similarity(self.amber_vectors)

    @property
    def _parts(self) -> Sequence[str]:
        return self.amber_parts or PARTS

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        data = self._data
        if not data.queries:
            raise ValueError(f"`amber_data` ({self.amber_data}) has no queries: query_all.json, there or in query/.")
        unknown = [number for number in data.queries if number not in data.annotations]
        if unknown:
            raise ValueError(f"{len(unknown)} queries of `amber_data` have no annotation, first id {unknown[0]}.")
        rows = [data.row(number) for number in data.queries if data.part(number) in self._parts]
        for row in filter(_described, rows[:1]):
            self._named("A dog.", row)  # what this needs is missing now, and not when all is answered
        return [
            row if _described(row) else {**row, "question": with_suffix(row["question"], self.amber_suffix)}
            for row in rows
        ]

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        answers = read_responses(path, self._data, self._parts)
        return [self._data.row(number) for number, _ in answers], [answer for _, answer in answers]

    def answer_settings(self) -> dict[str, Any]:
        return {"amber_suffix": self.amber_suffix} if self.amber_suffix else {}

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        pairs = list(zip(questions, answers, strict=True))
        described = [pair for pair in pairs if _described(pair[0])]
        answered = [pair for pair in pairs if not _described(pair[0])]
        result: dict[str, Any] = {"asked": ["describe" if _described(row) else "answer" for row in questions]}
        if described:
            result["generative"] = self._descriptions(described)
        if answered:
            result["discriminative"] = self._answers(answered)
        parts = self.metric_parts(result)
        result |= {name: ratio(*_seeded(part)) for name, part in parts.items()}
        result["intervals"] = {name: bootstrap_ratio(*_seeded(part), seed=seed) for name, part in parts.items()}
        return result

    def _descriptions(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> dict[str, Any]:
        counts: dict[str, list[int]] = {}
        for row, answer in pairs:
            truth, hallu = row["truth"]["truth"], row["truth"]["hallu"]
            words = [noun.lemma for noun in nouns(answer)]
            found = describe(words, truth, hallu, self._data.association, self._data.safe_words, self._similar[0])
            wrong = sum(found.hallucinated)
            line = {"nouns": len(found.hallucinated), "chair": wrong, "described": 1, "hal": int(wrong > 0)}
            line |= {"objects": len(truth), "cover": found.covered, "expected": len(hallu), "cog": found.expected}
            for name, count in line.items():
                counts.setdefault(name, []).append(count)
        return {"vectors": self._similar[1], "images": [row["image"] for row, _ in pairs], "counts": counts}

    def _answers(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> dict[str, Any]:
        read = EXACT.get if self.amber_reading == "published" else parse_yes_no
        answers = [Answered(row["truth"]["type"], row["truth"]["truth"], read(answer)) for row, answer in pairs]
        return {
            "reading": self.amber_reading or "strict",
            "figures": answer_scores(answers),
            "unreadable": sum(answer.said is None for answer in answers),
            "images": [row["image"] for row, _ in pairs],
            "correct": [int(answer.said == answer.label) for answer in answers],
            "said_no": [int(answer.said == "no") for answer in answers],
            "labelled_no": [int(answer.label == "no") for answer in answers],
        }

    def _named(self, answer: str, row: Mapping[str, Any]) -> list[tuple[int, int, bool]]:
        """Where the nouns of AMBER's vocabulary are, and whether each is hallucinated."""
        settings = (row["truth"]["truth"], row["truth"]["hallu"], self._data.association, self._data.safe_words)
        found = []
        for noun in nouns(answer):
            wrong = describe([noun.lemma], *settings, self._similar[0]).hallucinated
            found += [(noun.start, noun.end, bool(flag)) for flag in wrong]
        return found

    def marks(self, question: Mapping[str, Any], answer: str) -> list[tuple[int, int, str]]:
        if not _described(question):
            return []
        return [(start, end, "bad" if wrong else "good") for start, end, wrong in self._named(answer, question)]

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        scores: dict[str, Any] = {}
        if "generative" in result:
            counts = {name: sum(column) for name, column in result["generative"]["counts"].items()}
            percent = {name: counts[name] / (counts[below] + 0.001) * 100 for name, below in GENERATIVE.items()}
            faithful = (counts["described"] - counts["hal"]) / (counts["described"] + 0.001) * 100
            scores["Generative Task"] = {
                "CHAIR": round(percent["chair"], 1),
                "Cover": round(percent["cover"], 1),
                "Hal": round(100 - faithful, 1),
                "Cog": round(percent["cog"], 1),
            }
        scores |= result.get("discriminative", {}).get("figures", {})
        if "Generative Task" in scores and "Descriminative Task" in scores:
            faithful, f1 = 100 - scores["Generative Task"]["CHAIR"], scores["Descriminative Task"]["F1"]
            scores["AMBER Score"] = round((faithful + f1) / 2, 2)
        return scores

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        counts = result.get("generative", {}).get("counts", {"chair": [], "nouns": []})
        described = (
            1 - bad / all_ if all_ else None for bad, all_ in zip(counts["chair"], counts["nouns"], strict=True)
        )
        answered = iter(result.get("discriminative", {}).get("correct", []))
        return [next(described) if kind == "describe" else next(answered) for kind in result["asked"]]

    @staticmethod
    def correct(result: Mapping[str, Any]) -> list[int] | None:
        return None if "generative" in result else list(result["discriminative"]["correct"])

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        sources = [result[kind] for kind in ("generative", "discriminative") if kind in result]
        images = list(dict.fromkeys(image for source in sources for image in source["images"]))
        parts: dict[str, tuple[list, list]] = {}
        if "generative" in result:
            found = result["generative"]
            sums = {name: sums_per_image(found["images"], column, images) for name, column in found["counts"].items()}
            parts |= {f"amber_{name}": (sums[name], sums[below]) for name, below in GENERATIVE.items()}
        if "discriminative" in result:
            found = result["discriminative"]
            both = [2 * one * two for one, two in zip(found["said_no"], found["labelled_no"], strict=True)]
            either = [one + two for one, two in zip(found["said_no"], found["labelled_no"], strict=True)]
            columns = {"both": both, "either": either, "right": found["correct"], "asked": [1] * len(both)}
            sums = {name: sums_per_image(found["images"], column, images) for name, column in columns.items()}
            parts["amber_f1"] = (sums["both"], sums["either"])
            parts["amber_accuracy"] = (sums["right"], sums["asked"])
        if len(sources) == 2:  # the mean of 1 - CHAIR and F1
            wrong, named = parts["amber_chair"]
            faithful = [below - above for above, below in zip(wrong, named, strict=True)]
            parts["amber_score"] = ([faithful, parts["amber_f1"][0]], [named, parts["amber_f1"][1]])
        return {name: parts[name] for name in AmberBenchmark.metrics if name in parts}

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        lines = []
        if "generative" in result:
            names = [name for name in result["intervals"] if name.removeprefix("amber_") in GENERATIVE]
            vectors = result["generative"]["vectors"]
            how = f"similar nouns by {vectors}" if vectors else "only equal nouns match: not the published measure"
            lines.append(f"{len(result['generative']['images'])} descriptions: {figures(result, names)}, {how}")
            if not vectors:
                lines.append(
                    "AMBER has similar nouns match, too, by vectors of spaCy's en_core_web_lg, which is not installed "
                    "or was not asked for: CHAIR and hal are too high, cover too low."
                )
        if "discriminative" in result:
            found = result["discriminative"]
            asked = len(found["correct"])
            lines.append(
                f"{asked} yes-or-no questions: {figures(result, ('amber_f1', 'amber_accuracy'))}, neither yes nor no "
                f"{found['unreadable']} ({found['unreadable'] / asked:.1%}), read as wrong"
            )
            lines += [
                f"AMBER {name}: {', '.join(f'{figure} {value}' for figure, value in shown.items())}"
                for name, shown in found["figures"].items()
            ]
            if found["unreadable"] > asked / 2:
                lines.append('Most answers are neither yes nor no. Read them, or score them by the reading "strict".')
        if "amber_score" in result:
            lines.insert(0, f"AMBER: {figures(result, ('amber_score',))}, (100 - CHAIR + F1) / 2")
        return lines


def _described(row: Mapping[str, Any]) -> bool:
    return bool(row["truth"]["type"] == "generative")


def _seeded(part: tuple[list, list]) -> tuple[list, list]:
    """Counts with parts need an axis of seeds before that of parts."""
    return ([part[0]], [part[1]]) if part[0] and isinstance(part[0][0], list) else part


# What the published script reads
EXACT: dict[str, Literal["yes", "no"]] = {"Yes": "yes", "No": "no"}
