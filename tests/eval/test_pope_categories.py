import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.eval.intervals import bootstrap_ratio, ratio
from trl_mm.eval.pope_categories import FIGURES, pope_categories, pope_headline
from trl_mm.eval.pope_scores import pope_scores


yes_no = st.sampled_from(["yes", "no"])
row = st.tuples(
    st.sampled_from("abcd"), yes_no, st.sampled_from(["random", "popular"]), st.sampled_from(["Yes", "No", ""])
)


def asked(rows):
    questions = [{"image": image, "label": label, "category": category} for image, label, category, _ in rows]
    return questions, [answer for *_, answer in rows]


@given(st.lists(row, min_size=1, max_size=12), st.sampled_from(["strict", "published"]))
def test_figures_are_those_of_the_categories_and_their_mean(rows, reading):
    categories = pope_categories(*asked(rows), reading=reading)
    assert list(categories) == list(dict.fromkeys(category for _, _, category, _ in rows))
    for category, result in categories.items():
        mine = [row for row in rows if row[2] == category]
        expected = pope_scores([row[3] for row in mine], [row[1] for row in mine], reading=reading)
        assert {name: result[name] for name in expected} == expected
        assert result["images"] == [row[0] for row in mine]
        assert set(result["intervals"]) == set(FIGURES)
    headline = pope_headline(categories)
    f1 = [result["f1"] for result in categories.values()]
    assert headline["pope_f1"] == pytest.approx(sum(f1) / len(f1))
    correct = [right for result in categories.values() for right in result["correct"]]
    assert headline["pope_accuracy"] == pytest.approx(sum(correct) / len(correct))
    said = [yes for result in categories.values() for yes in result["predicted_yes"]]
    assert headline["pope_yes_share"] == pytest.approx(sum(said) / len(said))
    for name in ("pope_f1", "pope_accuracy", "pope_yes_share"):
        low, high = headline["pope_intervals"][name]
        assert 0 <= low <= high <= 1


def test_intervals_draw_images():
    """Counts of three images: both yes, label and answer, for each figure."""
    rows = [("a", "yes", "x", "Yes"), ("a", "no", "x", "Yes"), ("b", "yes", "x", "No"), ("c", "yes", "x", "Yes")]
    rows += [("c", "no", "x", "No"), ("b", "no", "x", "Yes")]
    result = pope_categories(*asked(rows), seed=3)["x"]
    parts = {
        "f1": ([2, 0, 2], [3, 2, 2]),
        "accuracy": ([1, 0, 2], [2, 2, 2]),
        "precision": ([1, 0, 1], [2, 1, 1]),
        "recall": ([1, 0, 1], [1, 1, 1]),
        "predicted_yes_share": ([2, 1, 1], [2, 2, 2]),
    }
    for name, part in parts.items():
        assert result[name] == pytest.approx(ratio(*part))
        assert result["intervals"][name] == bootstrap_ratio(*part, seed=3)


def test_the_headline_draws_an_image_in_all_categories_at_once():
    """Two categories about the same images, answered alike: their mean is as doubtful as one of them."""
    rows = [(image, "yes", "x", "Yes" if image in "ab" else "No") for image in "abcd"]
    twice = rows + [(image, label, "y", answer) for image, label, _, answer in rows]
    one, both = (pope_headline(pope_categories(*asked(part))) for part in (rows, twice))
    assert both["pope_intervals"]["pope_f1"] == pytest.approx(one["pope_intervals"]["pope_f1"])
    apart = rows + [(image.upper(), label, "y", answer) for image, label, _, answer in rows]
    low, high = pope_headline(pope_categories(*asked(apart)))["pope_intervals"]["pope_f1"]
    assert high - low < both["pope_intervals"]["pope_f1"][1] - both["pope_intervals"]["pope_f1"][0]
