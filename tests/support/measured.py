"""Models whose answers are known, scored by POPE and by a benchmark of free texts: for tests of what is shown."""

import re
from dataclasses import dataclass

from trl_mm.eval.benchmark import Benchmark, Metric
from trl_mm.eval.pope import PopeBenchmark
from trl_mm.eval.results import ModelResults


@dataclass(kw_only=True)
class GhostBenchmark(Benchmark):
    """Texts about images with a dog in them and no ghost: how many of the words "dog" and "ghost" are "ghost"."""

    title = "Ghosts"
    answer_rows = "`answer`"
    metrics = {
        "ghost_share": Metric("ghosts", "lower"),
        "ghost_dogs": Metric("dogs", "higher", scale=1.0, digits=2),
        "ghost_words": Metric("words", "neither", scale=1.0),
        "ghost_unknown": Metric("never there", "lower"),
    }

    def questions(self, truths, *, seed):
        return [{"image": f"{index}.png", "question": "What is it?", "truth": {"dog"}} for index in range(40)]

    def score(self, questions, answers, *, seed):
        counts = [[answer.split().count(word) for word in ("ghost", "dog")] for answer in answers]
        return {
            "ghosts": [ghosts for ghosts, _ in counts],
            "dogs": [dogs for _, dogs in counts],
            "words": [len(answer.split()) for answer in answers],
        }

    @staticmethod
    def metric_parts(result):
        ghosts, dogs, ones = result["ghosts"], result["dogs"], [1] * len(result["ghosts"])
        said = [sum(pair) for pair in zip(ghosts, dogs, strict=True)]
        return {
            "ghost_share": (ghosts, said),
            "ghost_dogs": (dogs, ones),
            "ghost_words": (result["words"], ones),
            "not_shown": (ghosts, ones),
        }

    @staticmethod
    def lines(result):
        return []

    @staticmethod
    def row_scores(result):
        found = zip(result["words"], result["dogs"], result["ghosts"], strict=True)
        return [float(dogs - ghosts) if words else None for words, dogs, ghosts in found]

    def marks(self, question, answer):
        kinds = {"ghost": "bad", "dog": "good"}
        return [(*match.span(), kinds[match[0]]) for match in re.finditer(r"ghost|dog", answer)]


def pope_rows():
    """120 rows: six about each of 20 images, in two categories one after the other."""
    return [
        {
            "image": f"{index}.png",
            "question": f"Is there a {thing} in the image?",
            "label": label,
            "category": category,
        }
        for category in ("random", "popular")
        for index in range(20)
        for thing, label in (("dog", "yes"), ("ghost", "no"), ("cat", "no"))
    ]


def measured(name, *, wrong=(), ghosts=(), silent=()):
    """
    A model that answers POPE right but for the rows `wrong`, and names a ghost of the images `ghosts`, nothing of the
    images `silent`.
    """
    questions = {"ghost": GhostBenchmark().questions(None, seed=0), "pope": pope_rows()}
    right = ("yes" if (row["label"] == "yes") != (index in wrong) else "no" for index, row in enumerate(pope_rows()))
    answers = {
        "ghost": [
            "" if index in silent else "A dog and a ghost in it." if index in ghosts else "A dog in it."
            for index in range(40)
        ],
        "pope": [answer.capitalize() for answer in right],
    }
    scores = {
        key: benchmark.score(questions[key], answers[key], seed=0) for key, benchmark in benchmarks_measured().items()
    }
    rows = {
        key: [{**row, "answer": answer} for row, answer in zip(questions[key], answers[key], strict=True)]
        for key in questions
    }
    return ModelResults(name, scores, rows)


def benchmarks_measured():
    """The two benchmarks, as `trl-mm eval` has them."""
    return {"ghost": GhostBenchmark(), "pope": PopeBenchmark(pope_files=["random.json", "popular.json"])}
