from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.measured import GhostBenchmark, benchmarks_measured, measured

from trl_mm.eval.chair import ChairBenchmark
from trl_mm.eval.result_cards import MAX_CHARACTERS, cards, changes, chosen, row_scores


BASE = measured("base", wrong=range(0, 30), ghosts=range(20))
ALIGNED = measured("aligned", wrong=range(25, 35), ghosts=[30], silent=[39])


def cards_of(models, name, rows):
    benchmark = benchmarks_measured()[name]
    return list(cards(models, name, benchmark, row_scores(models, name, benchmark), rows))


def test_scores_of_answers_and_what_changed():
    scores = row_scores([BASE, ALIGNED], "ghost", GhostBenchmark())
    assert scores["base"] == [0.0] * 20 + [1.0] * 20
    assert scores["aligned"] == [1.0] * 30 + [0.0] + [1.0] * 8 + [None]
    assert changes(scores, "base") == {"aligned": [1.0] * 20 + [0.0] * 10 + [-1.0] + [0.0] * 8 + [None]}
    assert changes(scores, "aligned")["base"][30] == 1.0
    assert changes({"aligned": scores["aligned"]}, "base") == {}


def test_a_benchmark_without_scores_of_answers_is_shown_all_the_same(monkeypatch):
    def row_scores_of_none(result):
        raise NotImplementedError

    monkeypatch.setattr(GhostBenchmark, "row_scores", staticmethod(row_scores_of_none))
    assert row_scores([BASE], "ghost", GhostBenchmark()) == {"base": [None] * 40}
    assert cards_of([BASE, ALIGNED], "ghost", [0])[0].values["aligned against base"] is None
    assert row_scores([replace(BASE, rows={})], "ghost", GhostBenchmark()) == {}


def test_as_many_scores_as_answers():
    short = replace(BASE, rows={**BASE.rows, "ghost": BASE.rows["ghost"][:-1]})
    with pytest.raises(ValueError, match="ghost: 40 scores of base for 39 answers"):
        row_scores([short], "ghost", GhostBenchmark())


change = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.5, 2.0]))


@given(st.lists(change, min_size=1, max_size=60), st.integers(1, 70), st.integers(0, 3))
def test_what_changed_most_comes_first(column, most, seed):
    found = chosen({"a": column}, len(column), most, seed)
    assert len(found) == len(set(found)) == min(most, len(column))
    assert found == chosen({"a": column}, len(column), most, seed)
    sizes = [abs(change or 0.0) for change in column]
    if len(column) <= most:
        moved = [index for index in found if sizes[index]]
        assert found[: len(moved)] == moved  # then the others, in order
        assert [sizes[index] for index in moved] == sorted(filter(None, sizes), reverse=True)
        assert found[len(moved) :] == sorted(found[len(moved) :])
    else:
        half = min(most - most // 2, sum(map(bool, sizes)))
        assert [sizes[index] for index in found[:half]] == sorted(sizes, reverse=True)[:half]


def test_a_draw_of_many_rows_depends_on_the_seed_alone():
    assert chosen({}, 10_000, 100, 0) == sorted(chosen({}, 10_000, 100, 0)) != chosen({}, 10_000, 100, 1)


def test_a_card_has_everything_about_a_question(tmp_path):
    Image.new("RGB", (50, 40), "red").save(tmp_path / "a.png")
    rows = [{**row, "image": str(tmp_path / "a.png")} for row in BASE.rows["pope"]]
    (card,) = cards_of([replace(BASE, rows={**BASE.rows, "pope": rows}), ALIGNED], "pope", [0])
    assert card.image.size == (50, 40)
    assert (card.title, card.prompt) == ("POPE · random · row 1", "Is there a dog in the image?")
    expected = [("expected", "yes", []), ("base · wrong", "No", []), ("aligned · right", "Yes", [])]
    assert card.answers == expected
    assert card.values == {"benchmark": "POPE", "category": "random", "aligned against base": "got better"}


def test_marks_are_those_of_the_benchmark():
    better, worse, same, silent = cards_of([BASE, ALIGNED], "ghost", [0, 30, 25, 39])
    assert better.answers[:2] == [
        ("in the image", "dog", []),
        ("base · 0", "A dog and a ghost in it.", [(2, 5, "good"), (12, 17, "bad")]),
    ]
    directions = [card.values["aligned against base"] for card in (better, worse, same, silent)]
    assert directions == ["got better", "got worse", "unchanged", None]
    assert silent.answers[2] == ("aligned", "(empty answer)", [])
    assert better.image.startswith("No image file at") or "0.png" in better.image


def test_of_marks_that_overlap_one_is_shown(monkeypatch):
    spans = [(4, 7, "bad"), (0, 7, "good"), (2, 9, "bad"), (8, 10, "bad")]
    monkeypatch.setattr(GhostBenchmark, "marks", lambda self, row, answer: spans)
    (card,) = cards_of([BASE], "ghost", [0])
    assert card.answers[1][2] == [(0, 7, "good"), (8, 10, "bad")]


def test_marks_and_replies_are_those_of_each_model(monkeypatch):
    """A judge says something else of each answer, and marks may depend on it."""
    monkeypatch.setattr(GhostBenchmark, "marks", lambda self, row, answer: [(0, len(row["reply"]), "bad")])
    models = [
        replace(model, rows={"ghost": [{**row, "reply": reply} for row in model.rows["ghost"]]})
        for model, reply in ((BASE, "3 of 6"), (ALIGNED, "5"))
    ]
    (card,) = cards_of(models, "ghost", [0])
    assert [marks for *_, marks in card.answers[1:]] == [[(0, 6, "bad")], [], [(0, 1, "bad")], []]
    assert card.answers[2][:2] == ("judge of base", "3 of 6") and card.answers[4][1] == "5"


def test_long_answers_are_cut_with_their_marks():
    rows = [{**row, "answer": "dog " * 1000 + "ghost"} for row in BASE.rows["ghost"]]
    (card,) = cards_of([replace(BASE, rows={"ghost": rows})], "ghost", [0])
    _, text, marks = card.answers[1]
    assert text.endswith(f" … ({4005 - MAX_CHARACTERS:,} more characters)")
    assert len(marks) == MAX_CHARACTERS // 4 and marks[-1][1] <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("extra", "category", "reference"),
    [
        ({"question_type": "counting"}, "counting", []),
        ({"truth": ["9", "nine", "9"]}, None, [("expected", "9, nine")]),
        ({"truth": {"answer": "left", "structural": "choose"}}, "choose", [("expected", "left")]),
        ({"truth": {"type": "generative", "truth": ["sky", "dog"]}}, "generative", [("expected", "sky, dog")]),
        ({"truth": {"objects": 3}, "image": None}, None, []),
        ({"truth": set()}, None, []),
    ],
)
def test_rows_of_all_kinds(extra, category, reference):
    rows = [{"question": "What?", "image": "gone.png", **extra, "answer": "A dog."}] * 40
    (card,) = cards_of([replace(BASE, rows={"ghost": rows})], "ghost", [3])
    assert card.values["category"] == category
    assert [answer[:2] for answer in card.answers[:-1]] == reference
    assert card.image == "no image" if "image" in extra else "gone.png" in card.image


def test_chair_says_what_is_in_the_image():
    truths = {"a.png": {"dog", "cat"}}
    chair = ChairBenchmark()
    questions = chair.questions(truths, seed=0)
    result = chair.score(questions, ["A dog and a car."], seed=0)
    model = replace(BASE, scores={"chair": result}, rows={"chair": [{**questions[0], "answer": "A dog and a car."}]})
    (card,) = cards([model], "chair", chair, row_scores([model], "chair", chair), [0])
    assert card.answers[0][:2] == ("in the image", "cat, dog")
