from functools import partial

import numpy as np
import pytest
import torch

from trl_mm.data.protocols import PairwiseJudge, Verdict, check_verdicts, is_judge, judge_name, judge_pairs


class Plain:
    def __init__(self, answers):
        self.answers = answers

    def judge(self, prompts, images, answer_pairs):
        return self.answers


class Rich(Plain):
    def verdicts(self, prompts, images, answer_pairs):
        return self.answers


def test_the_protocol_is_one_method():
    assert isinstance(Plain([]), PairwiseJudge)
    assert not isinstance(object(), PairwiseJudge)


def test_a_judge_with_and_one_without_verdicts_are_asked_alike():
    pairs = [("a", "b")] * 3
    assert judge_pairs(Plain([0, 1, None]), [[]] * 3, [[]] * 3, pairs) == [
        Verdict(0, "clear"),
        Verdict(1, "clear"),
        Verdict(None, "tie"),
    ]
    rich = [Verdict(1, "clear", "Response 2"), Verdict(None, "invalid", "?"), Verdict(None, "inconsistent")]
    assert judge_pairs(Rich(rich), [[]] * 3, [[]] * 3, pairs) == rich


def first_is_better(prompts, images, answer_pairs):
    return [0] * len(answer_pairs)


def test_a_function_is_a_judge():
    assert judge_pairs(first_is_better, [[]], [[]], [("a", "b")]) == [Verdict(0, "clear")]
    assert judge_pairs(Plain([1]).judge, [[]], [[]], [("a", "b")]) == [Verdict(1, "clear")]
    with pytest.raises(ValueError, match="The judge `first_is_better` returned 0 verdicts for 1 pairs"):
        check_verdicts([], 1, first_is_better)


@pytest.mark.parametrize(
    ("judge", "accepted"),
    [
        (first_is_better, True),
        (lambda *arguments: [], True),
        (partial(lambda style, prompts, images, pairs: [], "paper"), True),
        (Plain([]), True),
        (len, False),
        (lambda prompts, completions, **columns: [], False),  # a reward function
        (torch.nn.Identity(), False),
        ("llava-hf/llava-v1.6-34b-hf", False),
    ],
)
def test_what_is_a_judge(judge, accepted):
    assert is_judge(judge) is accepted
    assert judge_name(first_is_better) == "first_is_better" and judge_name(Plain([])) == "Plain"


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ([0], "`Plain` returned 1 verdicts for 2 pairs. A judge returns one verdict for each pair: 0"),
        ([0, 1, 1], "`Plain` returned 3 verdicts for 2 pairs"),
        ([0, 2], "`Plain` returned 2 for pair 1. A judge"),
        ([-1, 0], "`Plain` returned -1 for pair 0"),
        ([True, 0], "`Plain` returned True for pair 0"),
        ([0, 1.0], "`Plain` returned 1.0 for pair 1"),
        (["0", 1], "`Plain` returned '0' for pair 0"),
        (None, "`Plain` returned None, which is no list"),
        ([np.nan, 0], "`Plain` returned nan for pair 0"),
    ],
)
def test_a_wrong_number_or_value_is_refused(verdicts, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        check_verdicts(verdicts, 2, Plain(verdicts))


@pytest.mark.parametrize(
    ("choice", "outcome"), [(0, "tie"), (None, "clear"), (2, "clear"), (True, "clear"), (None, "good"), (1, "invalid")]
)
def test_a_verdict_that_contradicts_itself_is_refused(choice, outcome):
    with pytest.raises(ValueError, match="`choice`|`outcome`"):
        Verdict(choice, outcome)
