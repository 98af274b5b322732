import math

import pytest
from support.tiny import tiny_model

from trl_mm.data.protocols import PairwiseJudge, judge_pairs
from trl_mm.judges.reward import RewardJudge


PROMPTS = [[{"role": "user", "content": f"Question {index}?"}] for index in range(3)]
IMAGES = [["a"], [], ["b", "c"]]
PAIRS = [("a", "bb"), ("ccc", "d"), ("ee", "ff")]


def length(completions, **kwargs):
    return [len(completion[0]["content"]) for completion in completions]


def outcomes(judge, prompts=PROMPTS, images=IMAGES, pairs=PAIRS):
    return [(verdict.choice, verdict.outcome) for verdict in judge_pairs(judge, prompts, images, pairs)]


def test_the_higher_reward_wins_and_equal_ones_are_a_tie():
    judge = RewardJudge(length)
    assert isinstance(judge, PairwiseJudge)
    assert judge.judge(PROMPTS, IMAGES, PAIRS) == [1, 0, None]
    assert outcomes(judge) == [(1, "clear"), (0, "clear"), (None, "tie")]
    assert judge.verdicts(PROMPTS, IMAGES, PAIRS)[0].text == "rewards 1 and 2"


def test_functions_are_called_as_trl_does():
    def function(prompts, completions, images, **kwargs):
        assert prompts == PROMPTS + PROMPTS and images == IMAGES + IMAGES
        assert [len(completion) for completion in completions] == [1] * 6
        assert [completion[0]["content"] for completion in completions] == ["a", "ccc", "ee", "bb", "d", "ff"]
        assert completions[0][0]["role"] == "assistant"
        return range(6)

    assert RewardJudge([function]).judge(PROMPTS, IMAGES, PAIRS) == [1, 1, 1]


def test_rewards_are_summed_with_their_weights():
    def shorter(completions, **kwargs):
        return [-value for value in length(completions)]

    assert RewardJudge([length, shorter]).judge(PROMPTS, IMAGES, PAIRS) == [None, None, None]
    assert RewardJudge([length, shorter], weights=[1, 3]).judge(PROMPTS, IMAGES, PAIRS) == [0, 1, None]


@pytest.mark.parametrize(
    ("rewards", "outcome"),
    [
        ([[1, 2]], (1, "clear")),
        ([[None, 2]], (None, "invalid")),
        ([[1, math.nan]], (None, "invalid")),
        ([[None, None]], (None, "invalid")),
        ([[None, None], [3, 2]], (0, "clear")),  # the first function has nothing to say of this prompt
        ([[1, None], [3, 2]], (None, "invalid")),
        ([[math.inf, 1]], (0, "clear")),
        ([[math.inf, math.inf]], (None, "tie")),
        ([[math.inf, 1], [-math.inf, 1]], (None, "invalid")),
    ],
)
def test_a_missing_reward_is_no_lower_one(rewards, outcome):
    judge = RewardJudge([lambda row=row, **kwargs: row for row in rewards])
    assert outcomes(judge, PROMPTS[:1], IMAGES[:1], PAIRS[:1]) == [outcome]


def test_nothing_to_judge_is_no_error():
    assert RewardJudge(length).judge([], [], []) == []


def test_wrong_arguments_are_refused():
    def one(**kwargs):
        return [0.0]

    with pytest.raises(ValueError, match="`one` returned 1 rewards for 6 completions"):
        RewardJudge(one).judge(PROMPTS, IMAGES, PAIRS)
    with pytest.raises(ValueError, match="`weights` must have one number for each of `reward_funcs`, got 2 for 1"):
        RewardJudge(length, weights=[1, 2])
    with pytest.raises(ValueError, match="`weights`"):
        RewardJudge([])
    for model in (tiny_model(), "some/reward-model"):
        with pytest.raises(ValueError, match="Pass a reward model to the trainer"):
            RewardJudge(model)
