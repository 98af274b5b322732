import json

import pytest

from trl_mm.eval import amber
from trl_mm.eval.amber import AmberBenchmark
from trl_mm.eval.amber_nouns import Noun
from trl_mm.eval.intervals import ratio


ANNOTATIONS = [
    {"id": 1, "type": "generative", "truth": ["sky", "grass"], "hallu": ["dog"]},
    {"id": 2, "type": "generative", "truth": ["dog"], "hallu": []},
    {"id": 3, "type": "discriminative-hallucination", "truth": "no"},
    {"id": 4, "type": "discriminative-attribute-state", "truth": "yes"},
    {"id": 5, "type": "relation", "truth": "no"},
]
QUERIES = [
    {"id": number, "image": f"AMBER_{image}.jpg", "query": f"Is it {number}?"}
    for number, image in ((1, 1), (2, 2), (3, 1), (4, 1), (5, 2))
]


@pytest.fixture(autouse=True)
def known_nouns(monkeypatch):
    def nouns(text):
        words = text.split()
        return [Noun(word.strip("."), text.index(word), text.index(word) + len(word.strip("."))) for word in words]

    monkeypatch.setattr(amber, "nouns", nouns)


@pytest.fixture
def settings(tmp_path):
    files = {"annotations.json": ANNOTATIONS, "relation.json": {"sky": [], "grass": [], "dog": []}}
    for name, content in {**files, "query_all.json": QUERIES}.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "safe_words.txt").write_text("light")
    return {"amber_data": str(tmp_path), "amber_vectors": "none"}


def test_all_parts_are_asked_and_scored(settings):
    benchmark = AmberBenchmark(**settings, amber_suffix="Answer yes or no.")
    rows = benchmark.questions(None, seed=0)
    assert [row["question"] for row in rows[1:3]] == ["Is it 2?", "Is it 3?\nAnswer yes or no."]
    assert benchmark.answer_settings() == {"amber_suffix": "Answer yes or no."}
    answers = ["sky and dog", "dog", "No, there is none.", "Hm.", "yes"]
    result = benchmark.score(rows, answers, seed=0)
    assert result["generative"]["counts"] == {
        "nouns": [2, 1], "chair": [1, 0], "described": [1, 1], "hal": [1, 0],
        "objects": [2, 1], "cover": [1, 1], "expected": [1, 0], "cog": [1, 0],
    }  # fmt: skip
    scores = benchmark.published_scores(result)
    assert scores["Generative Task"] == {"CHAIR": 33.3, "Cover": 66.6, "Hal": 50.0, "Cog": 99.9}
    assert scores["Descriminative Task"] == {"Accuracy": 33.3, "Precision": 99.9, "Recall": 50.0, "F1": 66.6}
    assert scores["AMBER Score"] == round((100 - 33.3 + 66.6) / 2, 2)
    parts = benchmark.metric_parts(result)
    assert list(parts) == list(benchmark.metrics)
    assert result["amber_score"] == pytest.approx((1 - 1 / 3 + 2 / 3) / 2)
    assert result["amber_score"] == ratio([parts["amber_score"][0]], [parts["amber_score"][1]])
    assert benchmark.row_scores(result) == [0.5, 1, 1, 0, 0]
    assert benchmark.correct(result) is None
    lines = benchmark.lines(result)
    assert lines[0].startswith("AMBER: amber_score 66.7% [")
    assert "not the published measure" in lines[1]
    assert "neither yes nor no 1 (33.3%)" in lines[3]
    assert benchmark.marks(rows[0], "sky and dog.") == [(0, 3, "good"), (8, 11, "bad")]
    assert benchmark.marks(rows[2], "dog") == []
    json.dumps(result)


def test_published_reading_takes_exact_words(settings):
    benchmark = AmberBenchmark(**settings, amber_reading="published", amber_parts=["existence", "relation"])
    rows = benchmark.questions(None, seed=0)
    assert [row["id"] for row in rows] == [3, 5]
    result = benchmark.score(rows, ["No.", "No"], seed=0)
    assert benchmark.correct(result) == benchmark.row_scores(result) == [0, 1]
    assert list(benchmark.metric_parts(result)) == ["amber_f1", "amber_accuracy"]
    assert result["discriminative"]["unreadable"] == 1
    assert list(benchmark.published_scores(result)) == ["Exsitence", "Relation"]


def test_descriptions_alone(settings):
    benchmark = AmberBenchmark(**settings, amber_parts=["generative"])
    rows = benchmark.questions(None, seed=0)
    result = benchmark.score(rows, ["", "a light"], seed=0)
    assert benchmark.row_scores(result) == [None, None]
    assert list(benchmark.metric_parts(result)) == ["amber_chair", "amber_cover", "amber_hal", "amber_cog"]
    assert benchmark.published_scores(result)["Generative Task"] == {
        "CHAIR": 0.0,
        "Cover": 0.0,
        "Hal": 0.0,
        "Cog": 0.0,
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"amber_reading": "loose"}, "`amber_reading` must be one of published, strict, got 'loose'"),
        ({"amber_parts": ["existence", "all"]}, "`amber_parts` has no 'all'. Known: generative, existence"),
        ({}, "`amber_data` is missing"),
    ],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        AmberBenchmark(**settings).questions(None, seed=0)


@pytest.mark.parametrize(
    ("queries", "said"), [(None, "has no queries"), ([{**QUERIES[0], "id": 9}], "no annotation, first id 9")]
)
def test_bad_queries_are_named(settings, tmp_path, queries, said):
    (tmp_path / "query_all.json").unlink()
    if queries:
        (tmp_path / "query_all.json").write_text(json.dumps(queries))
    with pytest.raises(ValueError, match=said):
        AmberBenchmark(**settings).questions(None, seed=0)
