import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_row

from trl_mm.data.judging import JudgeUnavailable
from trl_mm.data.loading import prepare_preferences
from trl_mm.eval.judge_accuracy import judge_dataset, judge_scores, read_verdicts, wilson_interval


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
