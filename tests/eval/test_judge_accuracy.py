import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_row

from trl_mm.data.loading import prepare_preferences
from trl_mm.data.protocols import JudgeUnavailable
from trl_mm.eval.judge_accuracy import judge_dataset, judge_scores, judged_row, read_verdicts, wilson_interval
from trl_mm.judges.prompts import ask_in_both_orders, combined, single


class Knowing:
    """Prefers the answer that says right, and keeps what it was asked; the images' widths tell the rows apart."""

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def judge(self, prompts, images, answer_pairs):
        if self.fails_at is not None and len(self.asked) >= self.fails_at:
            raise JudgeUnavailable("down")
        self.asked += [
            (prompt[0]["content"], image[0].width, *pair)
            for prompt, image, pair in zip(prompts, images, answer_pairs, strict=True)
        ]
        return [int("right" in second) for _, second in answer_pairs]


@pytest.fixture(scope="module")
def dataset():
    rows = [
        tiny_row(index, f"right {index}", (20 + index, 20), rejected=[{"role": "assistant", "content": f"no {index}"}])
        for index in range(40)
    ]
    return prepare_preferences(Dataset.from_list(rows))


def test_the_order_of_the_answers_is_random_but_the_chosen_one_is_known(dataset, tmp_path):
    judge = Knowing()
    judge_dataset(judge, dataset, tmp_path, {"model": "a"}, seed=1)
    verdicts = read_verdicts(tmp_path)
    assert [row["row_id"] for row in verdicts] == dataset["row_id"][:]
    assert all(row["correct"] for row in verdicts)
    assert 10 < sum(row["chosen_at"] for row in verdicts) < 30
    assert [row["choice"] for row in verdicts] == [row["chosen_at"] for row in verdicts]
    for index, (question, width, *pair) in enumerate(judge.asked):
        assert (question, width, sorted(pair)) == (
            "Describe the image.",
            20 + index,
            [f"no {index}", f"right {index}"],
        )
    again = Knowing()
    judge_dataset(again, dataset, tmp_path / "2", {}, seed=1)
    judge_dataset(other := Knowing(), dataset, tmp_path / "3", {}, seed=2)
    assert again.asked == judge.asked != other.asked


def test_a_run_whose_judge_went_down_goes_on(dataset, tmp_path):
    with pytest.raises(JudgeUnavailable):
        judge_dataset(Knowing(fails_at=32), dataset, tmp_path, {}, shard_size=16)
    judge = Knowing()
    judge_dataset(judge, dataset, tmp_path, {}, shard_size=16)
    assert len(judge.asked) == 8 and len(read_verdicts(tmp_path)) == 40
    with pytest.raises(ValueError, match="made with other settings: `seed`"):
        judge_dataset(judge, dataset, tmp_path, {}, seed=3, shard_size=16)


def test_several_processes_write_what_one_does(dataset, tmp_path):
    judge_dataset(Knowing(), dataset, tmp_path / "one", {}, shard_size=8)
    for rank in range(3):
        judge_dataset(Knowing(), dataset, tmp_path / "three", {}, shard_size=8, rank=rank, world_size=3)
    assert read_verdicts(tmp_path / "one") == read_verdicts(tmp_path / "three")


def test_a_judge_of_another_protocol_is_refused(dataset, tmp_path):
    class Wrong:
        def judge(self, prompts, images, answer_pairs):
            return ["first"] * len(prompts)

    with pytest.raises(ValueError, match="The judge `Wrong` returned 'first' for pair 0"):
        judge_dataset(Wrong(), dataset, tmp_path, {})


def row(outcome, correct=None, places=()):
    return {"outcome": outcome, "correct": correct, "places": list(places)}


def test_scores_are_shares_of_what_they_say():
    verdicts = [
        row("clear", True, (0, 1)),
        row("clear", True, (1, 0)),
        row("clear", False, (0, 1)),
        row("tie", None, (None, None)),
        row("inconsistent", None, (0, 0)),
        row("inconsistent", None, (0, None)),
        row("invalid", None, (0, None)),
        row("tie", None, ()),
    ]
    scores = judge_scores(verdicts)
    assert (scores["num_pairs"], scores["num_decided"]) == (8, 3)
    assert (scores["accuracy_decided"], scores["accuracy_all"]) == (2 / 3, 2 / 8)
    assert (scores["tie_rate"], scores["inconsistent_rate"], scores["invalid_rate"]) == (2 / 8, 2 / 8, 1 / 8)
    assert scores["first_place_share"] == 7 / 10
    assert scores["intervals"]["accuracy_decided"] == wilson_interval(2, 3)
    assert scores["intervals"]["accuracy_all"] == wilson_interval(2, 8)


PLACES = st.sampled_from([0, 1, None])


@st.composite
def both_orders(draw):
    """What a judge says to both orders of some pairs, and where the chosen answer of each stands."""
    said = st.sampled_from(["Better: Response 1", "Better: Response 2", "Better: tie", "A dog.", None])
    return draw(st.lists(st.tuples(said, said, st.sampled_from([0, 1])), min_size=1, max_size=30))


def stored(verdict, chosen_at):
    """A verdict as `judge_dataset` keeps it."""
    return judged_row("0", chosen_at, verdict)


@given(both_orders())
def test_one_order_is_the_first_alone(replies):
    """Beside a count that knows nothing of verdicts: the first reply, whatever the second one is."""
    right = wrong = ties = unread = 0
    for first, _, chosen_at in replies:
        if first in ("Better: Response 1", "Better: Response 2"):
            names_chosen = (first == "Better: Response 2") == (chosen_at == 1)
            right, wrong = right + names_chosen, wrong + (not names_chosen)
        elif first == "Better: tie":
            ties += 1
        else:
            unread += 1
    scores = judge_scores([stored(combined(first, second), place) for first, second, place in replies])["one_order"]
    total, decided = len(replies), right + wrong
    assert scores == {
        "num_decided": decided,
        "accuracy_decided": right / decided if decided else None,
        "accuracy_all": right / total,
        "intervals": {
            "accuracy_decided": wilson_interval(right, decided),
            "accuracy_all": wilson_interval(right, total),
        },
        "tie_rate": ties / total,
        "invalid_rate": unread / total,
    }


@given(st.lists(st.tuples(PLACES, st.booleans(), st.sampled_from([0, 1])), min_size=1, max_size=30))
def test_a_judge_that_is_asked_once_has_one_accuracy(said):
    replies = ["" if place is None else f"Response {place + 1} is better." for place, _, _ in said]
    verdicts = [
        stored(single(reply, turned), chosen_at) for reply, (_, turned, chosen_at) in zip(replies, said, strict=True)
    ]
    scores = judge_scores(verdicts)
    # The place of the chosen answer as it was shown
    right = sum(place is not None and place == (chosen_at ^ turned) for place, turned, chosen_at in said)
    assert scores["accuracy_all"] == right / len(said)
    assert scores["one_order"] == {name: scores[name] for name in scores["one_order"]}
    assert scores["inconsistent_rate"] == scores["tie_rate"] == 0.0
    places = [place for place, _, _ in said if place is not None]
    assert scores["first_place_share"] == (places.count(0) / len(places) if places else None)


@pytest.mark.parametrize("choice", [0, 1, None])
def test_a_judge_without_orders_is_taken_as_it_is(dataset, tmp_path, choice):
    class Fixed:
        def judge(self, prompts, images, answer_pairs):
            return [choice] * len(prompts)

    judge_dataset(Fixed(), dataset, tmp_path, {})
    scores = judge_scores(read_verdicts(tmp_path))
    assert scores["one_order"] == {name: scores[name] for name in scores["one_order"]}
    assert scores["one_order"]["tie_rate"] == (choice is None)


def test_a_judge_with_a_favourite_place_shows_in_one_order_only(dataset, tmp_path):
    """All that it prefers stands first, so no verdict holds, and one order is a coin."""

    class First:
        def verdicts(self, prompts, images, answer_pairs):
            return ask_in_both_orders(lambda questions: ["Response 1"] * len(questions), prompts, images, answer_pairs)

        judge = verdicts

    judge_dataset(First(), dataset, tmp_path, {}, seed=1)
    rows = read_verdicts(tmp_path)
    scores = judge_scores(rows)
    assert scores["inconsistent_rate"] == 1.0 and scores["accuracy_decided"] is None
    chosen_first = sum(row["chosen_at"] == 0 for row in rows)
    assert scores["one_order"]["num_decided"] == 40
    assert scores["one_order"]["accuracy_all"] == chosen_first / 40 and 10 < chosen_first < 30


def test_verdicts_without_a_first_order_have_no_accuracy_in_it():
    assert judge_scores([row("clear", True, (0, 1))])["one_order"]["accuracy_all"] is None


def test_nothing_decided_is_no_number():
    scores = judge_scores([row("invalid")])
    assert scores["accuracy_decided"] is scores["first_place_share"] is scores["intervals"]["accuracy_decided"] is None
    assert scores["accuracy_all"] == 0.0 and scores["invalid_rate"] == 1.0


@pytest.mark.parametrize("outcome", ["tie", "invalid", "inconsistent"])
def test_every_outcome_is_counted_as_itself(outcome):
    scores = judge_scores([row(outcome)] * 4)
    assert [name for name in ("tie", "invalid", "inconsistent") if scores[f"{name}_rate"] == 1.0] == [outcome]
    assert scores["num_decided"] == 0


def test_the_interval_is_the_published_one():
    # Newcombe (1998), Table I: Wilson's score without continuity correction
    for successes, trials, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]:
        assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(0, 0) is None


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_has_a_width(counts):
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12 and successes / trials - 1e-12 <= high <= 1 and low < high
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


def test_groups_have_figures_of_their_own_and_a_mean():
    rows = [("clear", True), ("clear", True), ("tie", None), ("clear", False)]
    verdicts = [{"outcome": outcome, "correct": correct, "places": [0]} for outcome, correct in rows]
    scores = judge_scores(verdicts, groups=["general", "general", "general", "reasoning"])
    assert {name: found["num_pairs"] for name, found in scores["groups"].items()} == {"general": 3, "reasoning": 1}
    assert scores["groups"]["general"]["accuracy_all"] == pytest.approx(2 / 3)
    assert scores["groups"]["general"]["accuracy_decided"] == 1 and scores["accuracy_all"] == 0.5
    assert scores["macro_accuracy_all"] == pytest.approx(1 / 3) and scores["macro_accuracy_decided"] == 0.5
    undecided = judge_scores(verdicts[2:], groups=["general", "reasoning"])
    assert undecided["macro_accuracy_decided"] is None and undecided["macro_accuracy_all"] == 0
    assert "groups" not in judge_scores(verdicts)
