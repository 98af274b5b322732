import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published import published

from trl_mm.eval.pope import parse_yes_no, pope_questions, pope_scores, published_yes_no


annotations = st.dictionaries(st.text(max_size=3), st.sets(st.sampled_from("abcdefgh")), min_size=1, max_size=8)
strategies = st.sampled_from(["random", "popular", "adversarial"])
yes_no = st.sampled_from(["yes", "no"])


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


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("no", "no"),
        (" YES, there is a dog.", "yes"),
        ("No. There is not.", "no"),
        ("No dog is visible.", "no"),
        ("**Yes**", "yes"),
        ("_no_", "no"),
        ('"Yes"', "yes"),
        ("The answer is no.", "no"),
        ("Answer: Yes", "yes"),
        ("yes\n\nno", "yes"),
        ("Yes or no", None),
        ("yes/no", None),
        ("Not that I can see", None),
        ("Nothing", None),
        ("yesterday", None),
        ("There is a dog.", None),
        ("I see no dog.", None),
        ("", None),
    ],
)
def test_parse_yes_no(answer, expected):
    assert parse_yes_no(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A cat, not a dog.", "no"),
        ("Yes. There is no cat.", "yes"),
        ("NO", "yes"),
        ("", "yes"),
        ("no,", "no"),
    ],
)
def test_published_yes_no(answer, expected):
    assert published_yes_no(answer) == expected


def test_published_yes_no_is_that_of_the_published_script():
    rows = json.loads(published("golden/pope_answer_reading.json").read_text())["rows"]
    assert [published_yes_no(row["answer"]) for row in rows] == [row["official_reading"] for row in rows]


def test_scores_counted_by_hand():
    answers = ["Yes.", "No.", "Yes.", "Yes.", "Perhaps.", "Perhaps.", "No.", "Yes."]
    labels = ["yes", "yes", "no", "yes", "yes", "no", "no", "no"]
    assert pope_scores(answers, labels) == {
        "accuracy": 3 / 8,
        "precision": 2 / 4,
        "recall": 2 / 4,
        "f1": 1 / 2,
        "predicted_yes_share": 4 / 8,
        "reading": "strict",
        "unreadable": 2,
        "correct": [1, 0, 0, 1, 0, 0, 1, 0],
        "predicted_yes": [1, 0, 1, 1, 0, 0, 0, 1],
        "labelled_yes": [1, 1, 0, 1, 1, 0, 0, 0],
    }
    result = pope_scores(answers, labels, reading="published")  # each "Perhaps." is a yes
    assert (result["precision"], result["recall"], result["f1"]) == (3 / 6, 3 / 4, 6 / 10)
    assert (result["unreadable"], result["predicted_yes_share"]) == (2, 6 / 8)


def test_always_yes_is_a_predicted_yes_share_of_one():
    result = pope_scores(["yes"] * 10, ["yes", "no"] * 5)
    assert (result["predicted_yes_share"], result["accuracy"], result["recall"]) == (1.0, 0.5, 1.0)


def test_no_positive_answer_and_no_positive_label():
    result = pope_scores(["no", "eh"], ["no", "no"])
    assert (result["precision"], result["recall"], result["f1"], result["accuracy"]) == (0.0, 0.0, 0.0, 0.5)


@given(st.lists(st.tuples(yes_no, yes_no), min_size=1))
def test_scores_agree_with_their_definitions(pairs):
    answers, labels = zip(*pairs, strict=True)
    result = pope_scores(answers, labels)
    assert result["accuracy"] == pytest.approx(sum(answer == label for answer, label in pairs) / len(pairs))
    assert sum(result["correct"]) / len(pairs) == result["accuracy"]
    precision, recall = result["precision"], result["recall"]
    assert result["f1"] == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0)


@pytest.mark.parametrize(
    ("answers", "labels", "message"),
    [([], [], "got 0 and 0"), (["yes"], [], "got 1 and 0"), (["yes"], ["Yes"], "must be yes or no, got 'Yes'")],
)
def test_bad_scores(answers, labels, message):
    with pytest.raises(ValueError, match=message):
        pope_scores(answers, labels)


def test_an_unknown_reading_lists_the_known_ones():
    with pytest.raises(ValueError, match="one of strict, published, got 'lax'"):
        pope_scores(["yes"], ["yes"], reading="lax")
