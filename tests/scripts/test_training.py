import logging

from trl import ModelConfig

from trl_mm.scripts.training import peft_config


def test_adapters_that_transformers_does_not_load_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        assert peft_config(ModelConfig()) is None and not peft_config(ModelConfig(use_peft=True)).use_dora
        assert not caplog.text
        assert peft_config(ModelConfig(use_peft=True, use_dora=True)).use_dora
    assert "`use_dora`: transformers" in caplog.text and "`trl-mm merge`" in caplog.text
