import pytest
from trl.trainer.utils import RepeatSampler

from trl_mm.trainer.on_policy.epoch_sampler import EpochRepeatSampler


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_epoch_has_the_order_of_trl_whenever_it_begins(shuffle):
    settings = {"mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2, "shuffle": shuffle, "seed": 5}
    theirs = RepeatSampler(range(7), **settings)
    expected = [list(theirs) for _ in range(4)]
    epoch = [0]
    ours = EpochRepeatSampler(range(7), lambda: epoch[0], **settings)
    for epoch[0] in (0, 1, 2, 3, 1):
        assert list(ours) == expected[epoch[0]]
        assert list(EpochRepeatSampler(range(7), lambda: epoch[0], **settings)) == expected[epoch[0]]
    assert len(ours) == len(theirs)
