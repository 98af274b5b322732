import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval.pope import PopeBenchmark, pope_questions


annotations = st.dictionaries(st.text(max_size=3), st.sets(st.sampled_from("abcdefgh")), min_size=1, max_size=8)
strategies = st.sampled_from(["random", "popular", "adversarial"])


def absent_objects(rows):
    """Image: the objects that it is asked about without having them, in order."""
    found = {}
    for row in rows:
        if row["label"] == "no":
            found.setdefault(row["image"], []).append(row["question"].removeprefix("Is there a ").split(" in ")[0])
    return found


@given(annotations, strategies, st.sampled_from([2, 4, 6]), st.integers())
def test_questions(annotations, strategy, most, seed):
    known = set().union(*annotations.values())
    enough = {image for image, objects in annotations.items() if objects and objects != known}
    options = {"strategy": strategy, "questions_per_image": most, "seed": seed, "question": "{object}"}
    if not enough:
        with pytest.raises(ValueError, match="No image"):
            pope_questions(annotations, **options)
        return
    rows = pope_questions(annotations, **options)
    assert {row["image"] for row in rows} == enough
    for image in enough:
        mine = [row for row in rows if row["image"] == image]
        pairs = min(most // 2, len(annotations[image]), len(known - annotations[image]))
        assert [row["label"] for row in mine] == ["yes", "no"] * pairs
        assert len({row["question"] for row in mine}) == len(mine)
        for row in mine:
            assert (row["question"] in annotations[image]) == (row["label"] == "yes")


def test_random_depends_on_the_seed_and_on_no_other_image():
    annotations = {f"{n}.png": {"cat", "dog", "cow", f"thing {n}"} for n in range(20)}
    one, other = pope_questions(annotations, seed=1), pope_questions(annotations, seed=2)
    assert one == pope_questions(annotations, seed=1) != other
    backwards = pope_questions(dict(reversed(annotations.items())), seed=1)
    assert sorted(backwards, key=str) == sorted(one, key=str)


def test_popular_asks_about_what_is_in_the_most_images():
    annotations = {"1": {"cat"}, "2": {"dog", "car"}, "3": {"dog", "car"}, "4": {"dog"}, "5": {"sun", "cat"}}
    rows = pope_questions(annotations, strategy="popular", seed=0)
    assert absent_objects(rows) == {"1": ["dog"], "2": ["cat", "sun"], "3": ["cat", "sun"], "5": ["dog", "car"]} | {
        "4": [absent_objects(rows)["4"][0]]
    }
    assert absent_objects(rows)["4"][0] in ("car", "cat")  # a tie


def test_adversarial_asks_about_what_is_often_beside_the_object_just_asked_about():
    annotations = {f"together {n}": {"fork", "knife"} for n in range(3)} | {f"dog {n}": {"dog"} for n in range(9)}
    annotations |= {"fork alone": {"fork"}, "knife alone": {"knife"}}
    absent = absent_objects(pope_questions(annotations, strategy="adversarial", seed=0))
    assert (absent["fork alone"], absent["knife alone"]) == (["knife"], ["fork"])
    popular = absent_objects(pope_questions(annotations, strategy="popular", seed=0))
    assert (popular["fork alone"], popular["knife alone"]) == (["dog"], ["dog"])


def test_candidates_limit_both_kinds_of_question():
    rows = pope_questions({"1": {"cat", "dog"}, "2": {"cow"}}, seed=0, candidates=["cat", "cow", "unicorn"])
    assert {row["question"].split()[3] for row in rows} == {"cat", "cow", "unicorn"}


@pytest.mark.parametrize(
    ("object_", "expected"),
    [
        ("dog", "Is there a dog in a room?"),
        ("umbrella", "Is there an umbrella in a room?"),
        ("orange circle", "Is there an orange circle in a room?"),
        ("Apple", "Is there an Apple in a room?"),
        ("hourglass", "Is there an hourglass in a room?"),
        ("unicycle", "Is there a unicycle in a room?"),
        ("ukulele", "Is there a ukulele in a room?"),
        ("one-way sign", "Is there a one-way sign in a room?"),
        ("onesie", "Is there an onesie in a room?"),
        ("{0}", "Is there a {0} in a room?"),
    ],
)
def test_article(object_, expected):
    rows = pope_questions(
        {"1": {object_}}, seed=0, candidates=[object_, "x"], question="Is there a {object} in a room?"
    )
    assert rows[0]["question"] == expected


def test_a_question_without_an_article():
    rows = pope_questions({"1": {"owl"}}, seed=0, candidates=["owl", "x"], question="A banana {object}? A {object}?")
    assert rows[0]["question"] == "A banana owl? An owl?"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "Popular"}, "`strategy` must be one of random, popular, adversarial, got 'Popular'"),
        ({"questions_per_image": 5}, "must be even and at least 2, got 5"),
        ({"questions_per_image": 0}, "must be even and at least 2, got 0"),
        ({"question": "Is it there?"}, "must contain {object}"),
        ({"candidates": ["Dog"]}, "use the same names"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        pope_questions({"1": {"cat"}, "2": {"dog"}}, seed=0, **options)


# The benchmark


TRUTHS = {"1": {"cat", "dog"}, "2": {"dog", "car"}}


def test_questions_of_all_strategies_are_asked_with_the_suffix():
    settings = {"pope_strategies": ["popular", "random"], "pope_questions_per_image": 2, "pope_suffix": "One word."}
    rows = PopeBenchmark(**settings).questions(TRUTHS, seed=1)
    made = {
        strategy: pope_questions(TRUTHS, strategy=strategy, questions_per_image=2, seed=1)
        for strategy in settings["pope_strategies"]
    }
    assert rows == [
        {**row, "question": f"{row['question']}\nOne word.", "category": strategy}
        for strategy, found in made.items()
        for row in found
    ]


def test_published_questions_need_no_annotations_and_have_their_own_reading(tmp_path):
    (tmp_path / "coco").write_text('{"image": "1", "text": "Is there a dog?", "label": "yes"}')
    published, made = PopeBenchmark(pope_files=[str(tmp_path / "coco")]), PopeBenchmark()
    rows = published.questions(None, seed=0)
    assert rows == [{"image": "1", "question": "Is there a dog?", "label": "yes", "category": "coco"}]
    with pytest.raises(ValueError, match="`annotations` is missing.*--pope_files"):
        made.questions(None, seed=0)
    for benchmark, right, read in ((published, [1], "yes unless a no"), (made, [0], "wrong")):
        result = benchmark.score(rows, ["I see a dog."], seed=0)
        assert result["coco"]["correct"] == right
        assert f"neither yes nor no 1 (100.0%), read as {read}" in benchmark.lines(result)[0]


def test_answers_are_as_long_as_their_reading_looks():
    assert [PopeBenchmark().longest_answer(limit) for limit in (5, 256)] == [5, 16]
    assert [PopeBenchmark(pope_files=["x"]).longest_answer(limit) for limit in (5, 256)] == [5, 128]


@pytest.mark.parametrize("value", [1, 2.5, [2]])
def test_a_bad_number_of_questions_is_named(value):
    with pytest.raises(ValueError, match=r"`pope_questions_per_image` must be at least 2 and whole, got "):
        PopeBenchmark(pope_questions_per_image=value)


def test_scores_of_rows_stand_where_the_rows_do(tmp_path):
    rows = [
        {
            "image": f"{index}.jpg",
            "answer": "Yes." if index in (1, 2) else "No.",
            "label": "yes",
            "category": "ab"[index % 2],
        }
        for index in range(4)
    ]
    (tmp_path / "answers.json").write_text(json.dumps(rows))
    benchmark = PopeBenchmark(pope_reading="published")
    questions, answers = benchmark.read_answers(tmp_path / "answers.json")
    assert [row["image"] for row in questions] == ["0.jpg", "2.jpg", "1.jpg", "3.jpg"]
    assert benchmark.row_scores(benchmark.score(questions, answers, seed=0)) == [0, 1, 1, 0]
