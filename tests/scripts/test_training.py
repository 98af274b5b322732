import logging

import pytest
from support.tiny import save_tiny
from trl import ModelConfig

from trl_mm.cli.main import main
from trl_mm.scripts.training import peft_config


def test_adapters_that_transformers_does_not_load_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        assert peft_config(ModelConfig()) is None and not peft_config(ModelConfig(use_peft=True)).use_dora
        assert not caplog.text
        assert peft_config(ModelConfig(use_peft=True, use_dora=True)).use_dora
    assert "`use_dora`: transformers" in caplog.text and "`trl-mm merge`" in caplog.text


@pytest.mark.parametrize("command", ["dpo", "online-dpo"])
def test_an_evaluation_without_rows_is_refused_before_anything_is_loaded(command, tmp_path, capsys):
    save_tiny(tmp_path / "model")
    arguments = ["--model_name_or_path", str(tmp_path / "model"), "--dataset_name", str(tmp_path / "nowhere")]
    arguments += ["--output_dir", str(tmp_path / "out"), "--eval_strategy", "steps", "--bf16", "false"]
    assert main([command, *arguments]) == 2
    assert "`eval_strategy: steps` evaluates, but there are no rows" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
