"""A benchmark that a judge scores, for tests of what has it judged."""

from dataclasses import dataclass

from trl_mm.data.images import open_image
from trl_mm.eval.benchmark import Benchmark, Metric


@dataclass(kw_only=True)
class GradedBenchmark(Benchmark):
    """
    Grades of answers.

    Args:
        graded_images (`list[str]`, *optional*): what is shown.
    """

    graded_images: list[str] | None = None

    title = "Graded"
    metrics = {"graded": Metric("length of the reply", "neither", scale=1.0)}
    judge_options = {"temperature": 0.2, "max_tokens": 7}
    judge_system = "You grade."

    def questions(self, truths, *, seed):
        names = self.graded_images or ["a.png", "b.png", "c.png"]
        return [{"image": name, "question": "What is it?", "truth": f"truth {name}"} for name in names]

    def judge(self, questions, answers, ask):
        shown = [
            (f"{row['truth']}: grade {said!r}.", [open_image(row["image"])])
            for row, said in zip(questions, answers, strict=True)
        ]
        return [{"reply": reply} for reply in ask(shown)]

    def score(self, questions, answers, *, seed):
        replies = [row["reply"] for row in questions]
        return {"replies": replies, "unjudged": replies.count(None)}

    @staticmethod
    def metric_parts(result):
        return {"graded": ([len(reply or "") for reply in result["replies"]], [1] * len(result["replies"]))}

    @staticmethod
    def row_scores(result):
        return [None if reply is None else float(len(reply)) for reply in result["replies"]]

    @staticmethod
    def lines(result):
        return [f"{len(result['replies'])} grades, {result['unjudged']} not judged"]
