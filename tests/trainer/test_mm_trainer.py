"""What both trainers refuse, and when they stop."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from support.families import text_only_model
from support.rows import image_dataset, tiny_pairs
from support.tiny import TRAINING, tiny_model, tiny_processor
from transformers import TrainerCallback

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer


DPO = (MMDPOTrainer, MMDPOConfig, {})
ONLINE = (MMOnlineDPOTrainer, MMOnlineDPOConfig, {"offline_probability": 1.0})
BOTH = pytest.mark.parametrize("kind", [DPO, ONLINE], ids=["dpo", "online-dpo"])


def pairs(count=4):
    return image_dataset(tiny_pairs(count))


def make(kind, model, folder, given=None, **settings):
    trainer, cls, own = kind
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        **TRAINING,
        **own,
        **settings,
    }
    given = {"train_dataset": pairs(), "processing_class": tiny_processor(), **(given or {})}
    return trainer(model, args=cls(**arguments), **given)


@BOTH
def test_a_text_only_model_is_refused_beside_the_processor_of_another(kind, checkpoint, tmp_path):
    text_only_model().save_pretrained(tmp_path / "text")
    for model, given in (
        (text_only_model(), {}),
        (str(tmp_path / "text"), {}),
        (tiny_model(), {"ref_model": text_only_model()}),
    ):
        name = "ref_model" if given else "model"
        with pytest.raises(ValueError, match=rf"`{name}` \(LlamaForCausalLM\) takes no images, .*Pass one such as"):
            make(kind, model, tmp_path, given)


@BOTH
def test_several_gpus_in_one_process_are_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="One process sees 2 GPUs.*--accelerate_config ddp.*accelerate launch.*CUDA_"):
        make(kind, tiny_model(), tmp_path, use_cpu=False)


class Breaks(TrainerCallback):
    """Makes a weight NaN before a step, or after it."""

    def __init__(self, step, after=False):
        self.step, self.after = step, after

    def _break(self, model):
        with torch.no_grad():
            next(p for p in model.parameters() if p.requires_grad).view(-1)[0] = float("nan")

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if not self.after and state.global_step == self.step - 1:
            self._break(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if self.after and state.global_step == self.step:
            self._break(model)


@BOTH
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("callback", "message"),
    [(Breaks(3), "gradients of step 3 is nan"), (Breaks(4, after=True), "After step 4, .* has values that are NaN")],
    ids=["on the way", "at the end"],
)
def test_training_stops_at_the_first_number_that_is_none(kind, lora, callback, message, checkpoint, tmp_path):
    peft = {"peft_config": LoraConfig(r=2)} if lora else {}
    trainer = make(kind, checkpoint, tmp_path, {"callbacks": [callback], **peft}, save_strategy="steps", save_steps=2)
    with pytest.raises(ValueError, match=f"{message}.*checkpoint-2 was saved before. Lower `learning_rate`"):
        trainer.train()
    assert not (tmp_path / "checkpoint-4").exists()
    assert all(np.isfinite(entry["loss"]) for entry in trainer.state.log_history)
    assert trainer.args.logging_nan_inf_filter, "what the user has set is back"


def test_a_loss_that_is_none_stops_training_where_a_scaled_loss_skips_steps(checkpoint, tmp_path):
    trainer = make(DPO, checkpoint, tmp_path)
    with pytest.raises(ValueError, match="The loss up to step 0 is inf, so training stops. No checkpoint was saved"):
        trainer.log({"loss": float("inf")})


@BOTH
@pytest.mark.parametrize("name", ["eval", "eval_held_out"])
def test_an_evaluation_that_is_none_stops_training_before_it_is_the_best_one(kind, name, checkpoint, tmp_path):
    rows = pairs(2) if name == "eval" else {"held_out": pairs(2)}
    given = {"callbacks": [Breaks(4, after=True)], "eval_dataset": rows}
    saving = {"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    best = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": f"{name}_loss"}
    trainer = make(kind, checkpoint, tmp_path, given, **saving, **best)
    with pytest.raises(ValueError, match=f"`{name}_loss` after step 4 is nan, so training stops.*checkpoint-2 was"):
        trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert [entry["step"] for entry in trainer.state.log_history if f"{name}_loss" in entry] == [2]


@BOTH
def test_an_evaluation_leaves_no_row_out_whose_loss_is_none(kind, checkpoint, tmp_path, monkeypatch):
    trainer = make(kind, checkpoint, tmp_path, {"eval_dataset": pairs(4)}, per_device_eval_batch_size=1)
    losses = iter([1.0, float("inf"), 1.0, 1.0])
    monkeypatch.setattr(trainer, "prediction_step", lambda *args, **kwargs: (torch.tensor(next(losses)), None, None))
    with pytest.raises(ValueError, match="`eval_loss` after step 0 is inf, so it says nothing. .*`learning_rate`"):
        trainer.evaluate()
    assert trainer.args.logging_nan_inf_filter, "what the user has set is back"


@BOTH
@pytest.mark.parametrize("until", [{"max_steps": 6}, {"max_steps": -1, "num_train_epochs": 1.5}, {"max_steps": 4}])
def test_a_finished_run_that_is_repeated_trains_nothing(kind, until, checkpoint, tmp_path, caplog):
    def run():
        trainer = make(kind, checkpoint, tmp_path, save_strategy="steps", save_steps=1, **until)
        trainer.train(resume_from_checkpoint=True)
        trainer.save_model()
        return trainer.state.global_step, (tmp_path / "model.safetensors").read_bytes()

    first = run()
    checkpoints = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert "Nothing is left to do" not in caplog.text
    assert run() == first
    assert "Nothing is left to do" in caplog.text and "Raise `max_steps`" in caplog.text
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == checkpoints
    longer = make(kind, checkpoint, tmp_path, max_steps=7, save_strategy="steps", save_steps=1)
    assert longer.train(resume_from_checkpoint=True).global_step == 7


@BOTH
def test_a_prediction_is_an_evaluation_of_checked_rows(kind, checkpoint, tmp_path):
    trainer = make(kind, checkpoint, tmp_path)
    rows = pairs(3)
    evaluated = trainer.evaluate(rows)
    predicted = trainer.predict(rows.map(lambda row: {"image": row["images"][0]}, remove_columns="images"))
    assert predicted.predictions is None
    wanted = {f"test_{name.removeprefix('eval_')}": value for name, value in evaluated.items() if name != "epoch"}
    timed = ("runtime", "per_second")
    assert {name: value for name, value in predicted.metrics.items() if not name.endswith(timed)} == {
        name: pytest.approx(value) for name, value in wanted.items() if not name.endswith(timed)
    }
    trainer.predict(pairs(1))
    assert trainer.evaluate(rows)["eval_logps/chosen"] == pytest.approx(evaluated["eval_logps/chosen"]), (
        "of these rows"
    )
    with pytest.raises(ValueError, match="test dataset, row 0: column `rejected` is missing"):
        trainer.predict(rows.remove_columns("rejected"))


def test_a_prediction_has_logits_where_they_are_asked_for(checkpoint, tmp_path):
    trainer = make(DPO, checkpoint, tmp_path, {"compute_metrics": lambda prediction: {"rows": len(prediction[0])}})
    with pytest.warns(FutureWarning, match="return_outputs"):
        predicted = trainer.predict(pairs(2))
    assert predicted.metrics["test_rows"] == 2 and predicted.predictions.ndim == 3


def test_a_prediction_without_reference_log_probabilities_names_what_computes_them(checkpoint, tmp_path):
    settings = {"precompute_ref_log_probs": True, "ref_log_probs_dir": str(tmp_path / "kept")}
    trainer = make(DPO, checkpoint, tmp_path, **settings)
    with pytest.raises(ValueError, match=r"`predict` does not go .*evaluate\(dataset, metric_key_prefix='test'\)"):
        trainer.predict(pairs(2))
    assert "test_loss" in trainer.evaluate(pairs(2), metric_key_prefix="test")
