import pytest
from trl import DPOConfig

from trl_mm import MMDPOConfig
from trl_mm.trainer.parts.config import frozen_parts
from trl_mm.trainer.rows_config import fill_defaults


def test_by_default_all_parts_train_as_in_trl():
    plain = DPOConfig("unused", bf16=False)
    fill_defaults(plain, MMDPOConfig)
    assert frozen_parts(MMDPOConfig("unused", bf16=False)) == frozen_parts(plain) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"projector_learning_rate": -1e-5}, "`projector_learning_rate` must be 0 or more, got -1e-05"),
        ({"projector_learning_rate": 1e-5, "freeze_projector": True}, "=1e-05` trains the projector, and .*Leave one"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MMDPOConfig("unused", bf16=False, **settings)
