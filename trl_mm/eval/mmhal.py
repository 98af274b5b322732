"""MMHal-Bench (Sun et al., "Aligning Large Multimodal Models with Factually Augmented RLHF", 2023), and with sight."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ..data.images import open_image
from ..data.shown import shown
from .benchmark import Ask, Benchmark, Metric
from .intervals import bootstrap_ratio, ratio
from .judged import judged_column, read_data, read_replies, unjudged_lines
from .mmhal_scores import mmhal_parts, mmhal_scores, types_by_order
from .mmhal_wording import grading_question


NEEDED = ("image_src", "image_content", "question", "gt_answer")
IMAGES_AT_ONCE = 8  # open at a time: some have 20 megapixels


class MMHal(Benchmark):
    """What [`MMHalBenchmark`] and [`MMHalVBenchmark`] share."""

    name: ClassVar[str]
    with_image: ClassVar[bool]

    answer_rows = (
        "the judge's reply: a text, `reply` or `content`, or an OpenAI response as the published script stores it; "
        "`question_type`, or all 96 in the published order"
    )
    default_length = 1024
    judge_options = {"temperature": 0.0}

    def data_file(self) -> str | None:
        raise NotImplementedError

    def questions(self, truths: Mapping[str, Set[str]] | None, *, seed: int) -> list[dict[str, Any]]:
        setting, path = f"{self.name}_file", self.data_file()
        cure = f"`{setting}` is response_template.json of Shengcao1006/MMHal-Bench."
        if path is None:
            raise ValueError(f"`{setting}` is missing. {cure}")
        entries = read_data(Path(path), setting, NEEDED, cure)
        order = types_by_order(len(entries))
        rows = []
        for number, (entry, type_) in enumerate(zip(entries, order, strict=True), start=1):
            contents = entry["image_content"]
            if not isinstance(contents, list) or not all(isinstance(name, str) for name in contents):
                raise ValueError(f"{path}, entry {number}: `image_content` must be a list of names. {cure}")
            truth = {
                "type": entry.get("question_type") or type_,
                "contents": contents,
                "reference": entry["gt_answer"],
            }
            rows.append({"image": _file_name(entry["image_src"]), "question": entry["question"], "truth": truth})
        return rows

    def judge(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], ask: Ask) -> list[dict[str, Any]]:
        asked = []
        for row, answer in zip(questions, answers, strict=True):
            truth = row["truth"]
            text = grading_question(
                truth["contents"], row["question"], truth["reference"], answer, with_image=self.with_image
            )
            asked.append((text, row["image"]))
        replies: list[str | None] = []
        step = IMAGES_AT_ONCE if self.with_image else len(asked)
        for start in range(0, len(asked), max(1, step)):
            some = asked[start : start + step]
            replies += ask([(text, [open_image(image)] if self.with_image else []) for text, image in some])
        return [{"reply": reply} for reply in replies]

    def score(self, questions: Sequence[Mapping[str, Any]], answers: Sequence[str], *, seed: int) -> dict[str, Any]:
        types = [row["truth"]["type"] for row in questions]
        replies = judged_column(questions, "reply", self.title)
        result = mmhal_scores(types, [row["image"] for row in questions], replies)
        parts = mmhal_parts(result)
        return {
            **{name: ratio(*part) for name, part in parts.items()},
            **result,
            "intervals": {name: bootstrap_ratio(*part, seed=seed) for name, part in parts.items()},
        }

    def read_answers(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        entries, replies = read_replies(path)
        rows = []
        for number, (entry, type_, reply) in enumerate(
            zip(entries, types_by_order(len(entries)), replies, strict=True), start=1
        ):
            fields = entry if isinstance(entry, dict) else {}
            type_ = fields.get("question_type") or type_
            if type_ is not None and not isinstance(type_, str):
                raise ValueError(f"{path}, entry {number}: `question_type` must be a text, got {shown(type_, 200)}.")
            image = str(fields.get("image_id", f"entry {number}"))
            rows.append({"image": image, "truth": {"type": type_}, "reply": reply})
        return rows, [""] * len(rows)

    def published_scores(self, result: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "average_score": result["score"],
            "hallucination_rate": result["hallucination_rate"],
            "informativeness": 100 * result["informativeness"],
            "average_score_for_each_question_type": result["by_type"],
            "unreadable": result["unreadable"],
            "unjudged": sum(rating is None for rating in result["ratings"]),
        }

    @staticmethod
    def row_scores(result: Mapping[str, Any]) -> list[float | None]:
        return result["ratings"]

    @classmethod
    def _lines(cls, result: Mapping[str, Any]) -> list[str]:
        (low, high), (least, most) = (result["intervals"][name] for name in ("score", "hallucination_rate"))
        lines = [
            f"{cls.title}, {len(result['ratings'])} answers: "
            f"score {result['score']:.2f} of 6 [{low:.2f}, {high:.2f}], "
            f"hallucination rate {result['hallucination_rate']:.2f} [{least:.2f}, {most:.2f}], "
            f"informativeness {100 * result['informativeness']:.1f}"
        ]
        by_type = {name: mean for name, mean in result["by_type"].items() if mean is not None}
        if by_type:
            lines.append(f"{cls.title} by type: {', '.join(f'{name} {mean:.2f}' for name, mean in by_type.items())}")
        return lines + unjudged_lines(cls.title, result["ratings"], result["unreadable"], "they are rated 0")

    @classmethod
    def _metric_parts(cls, result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        return {f"{cls.name}_{name}": part for name, part in mmhal_parts(result).items()}


def _metrics(name: str) -> dict[str, Metric]:
    return {
        f"{name}_score": Metric("score (0 to 6)", "higher", scale=1.0, digits=2),
        f"{name}_hallucination_rate": Metric("hallucination rate", "lower"),
        f"{name}_informativeness": Metric("informativeness", "higher"),
    }


@dataclass(kw_only=True)
class MMHalBenchmark(MMHal):
    """
    MMHal-Bench (arXiv 2309.14525): 96 questions of eight types about images of Open Images. The question is asked as
    it is, greedily. A judge that does not see the image (gpt-4-0314 in its paper, gpt-4-1106-preview in RLAIF-V's)
    rates the answer from 0 to 6, given the names of what is in the image and a person's answer; below 3 it
    hallucinates. A reply without exactly one rating counts as 0, as published. The means by type rest on the order of
    the rows where these do not say their type.

    Data and images: Shengcao1006/MMHal-Bench on the Hub. Neither lmms-eval nor VLMEvalKit has it.

    Args:
        mmhal_file (`str`, *optional*): response_template.json of MMHal-Bench; the image folder is its `images`.
    """

    mmhal_file: str | None = None

    name = "mmhal"
    with_image = False
    title = "MMHal-Bench"
    metrics = _metrics("mmhal")

    def data_file(self) -> str | None:
        return self.mmhal_file

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        return MMHalBenchmark._metric_parts(result)

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        return MMHalBenchmark._lines(result)


@dataclass(kw_only=True)
class MMHalVBenchmark(MMHal):
    """
    MMHal-Bench-V of arXiv 2407.02477: [`MMHalBenchmark`] whose judge sees the image (GPT-4o in the paper). Data,
    questions and scores are the same.

    Args:
        mmhal_v_file (`str`, *optional*): response_template.json of MMHal-Bench, for MMHal-Bench-V.
    """

    mmhal_v_file: str | None = None

    name = "mmhal_v"
    with_image = True
    title = "MMHal-Bench-V"
    metrics = _metrics("mmhal_v")

    def data_file(self) -> str | None:
        return self.mmhal_v_file

    @staticmethod
    def metric_parts(result: Mapping[str, Any]) -> dict[str, tuple[list, list]]:
        return MMHalVBenchmark._metric_parts(result)

    @staticmethod
    def lines(result: Mapping[str, Any]) -> list[str]:
        return MMHalVBenchmark._lines(result)


def _file_name(address: Any) -> str:
    """Name of an image in the published folder: the last part of its address."""
    name = PurePosixPath(urlsplit(str(address)).path).name
    if not name:
        raise ValueError(f"`image_src` must end with the name of a file, got {shown(str(address), 200)}.")
    return name
