import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_image, tiny_model, tiny_processor, tiny_row
from support.training import FirstIsBetter
from transformers.integrations.integration_utils import rewrite_logs

from trl_mm import BenchmarkCallback, MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.eval.answers import answer_questions, read_answers
from trl_mm.eval.benchmark_callback import same_random_numbers
from trl_mm.eval.mme import MMEBenchmark
from trl_mm.eval.pope import PopeBenchmark
from trl_mm.generation import Completer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with POPE questions about them."""
    folder = tmp_path_factory.mktemp("pope")
    lines = []
    for image in range(3):
        tiny_image(image).save(folder / f"{image}.png")
        for object_, label in (("dog", "yes"), ("cat", "no")):
            lines.append({"image": f"{image}.png", "text": f"Is there a {object_}?", "label": label})
    (folder / "random.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def pope(folder):
    return {"pope": PopeBenchmark(pope_files=[str(folder / "random.json")])}


def dpo_trainer(tmp_path, **settings):
    rows = image_dataset([tiny_row(seed, rejected=said("There is a dog.")) for seed in range(4)])
    defaults = {"per_device_train_batch_size": 1, "learning_rate": 1e-3, "num_train_epochs": 1, "logging_steps": 1}
    return MMDPOTrainer(
        tiny_model(scale=5),
        args=MMDPOConfig(str(tmp_path), **{**TRAINING, **defaults, "gradient_checkpointing": True, **settings}),
        train_dataset=rows,
        eval_dataset=rows.select(range(2)),
        processing_class=tiny_processor(),
        peft_config=LoraConfig(r=4, lora_dropout=0.3, target_modules=["q_proj", "v_proj"]),
    )


def online_trainer(tmp_path, **settings):
    rows = image_dataset([tiny_row(seed) for seed in range(4)]).remove_columns("chosen")
    defaults = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "num_train_epochs": 1, "logging_steps": 1}
    return MMOnlineDPOTrainer(
        tiny_model(scale=5),
        judge=FirstIsBetter(),
        args=MMOnlineDPOConfig(str(tmp_path), max_new_tokens=6, **{**TRAINING, **defaults, **settings}),
        train_dataset=rows,
        processing_class=tiny_processor(),
    )


def trained(trainer):
    """What is logged at each step but for times, and what of it is benchmarks."""
    trainer.train()
    times = ("runtime", "per_second", "loader_wait")
    entries = [
        {name: value for name, value in entry.items() if not any(time in name for time in times)}
        for entry in trainer.state.log_history
    ]
    measured = [entry for entry in entries if "eval_pope_f1" in entry]
    return [entry for entry in entries if entry not in measured], measured


@pytest.mark.parametrize("make", [dpo_trainer, online_trainer])
def test_training_is_not_disturbed(tmp_path, folder, make):
    torch.manual_seed(0)
    alone, nothing = trained(make(tmp_path / "alone"))
    torch.manual_seed(0)
    trainer = make(tmp_path / "measured")
    trainer.add_callback(BenchmarkCallback(trainer, pope(folder), image_folder=folder, steps=1, max_new_tokens=4))
    logged, measured = trained(trainer)
    assert logged == alone and not nothing
    assert [entry["step"] for entry in measured] == [entry["step"] for entry in logged if "loss" in entry]
    assert trainer.model.training
    names = {"eval_pope_f1", "eval_pope_accuracy", "eval_pope_yes_share", "epoch", "step"}
    assert set(measured[0]) == names
    assert rewrite_logs(measured[0])["eval/pope_f1"] == measured[0]["eval_pope_f1"]


def test_it_measures_every_so_many_steps(tmp_path, folder):
    trainer = dpo_trainer(tmp_path, eval_strategy="epoch")
    trainer.add_callback(BenchmarkCallback(trainer, pope(folder), image_folder=folder, steps=2, max_new_tokens=2))
    _, measured = trained(trainer)
    assert [entry["step"] for entry in measured] == [2, 4]


def test_figures_of_an_evaluation_join_its_metrics(tmp_path, folder):
    trainer = dpo_trainer(
        tmp_path,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        metric_for_best_model="eval_pope_yes_share",
        greater_is_better=True,
    )
    trainer.add_callback(BenchmarkCallback(trainer, pope(folder), image_folder=folder, max_new_tokens=2))
    _, measured = trained(trainer)
    assert [entry["step"] for entry in measured] == [2, 4]
    assert trainer.state.best_metric == max(entry["eval_pope_yes_share"] for entry in measured)
    assert trainer.evaluate()["eval_pope_yes_share"] == measured[-1]["eval_pope_yes_share"]


def test_the_policy_answers_as_in_eval_with_its_adapter(tmp_path, folder, monkeypatch):
    trainer = dpo_trainer(tmp_path / "run", learning_rate=1.0)
    callback = BenchmarkCallback(trainer, pope(folder), image_folder=folder, batch_size=4, max_new_tokens=4)
    rows = callback.questions["pope"]
    before = callback._answers(pope(folder)["pope"], rows)
    trainer.train()
    after = callback._answers(pope(folder)["pope"], rows)
    asked = [{"image": row["file"], "question": row["question"]} for row in rows]
    answer_questions(trainer.model, tiny_processor(), asked, tmp_path / "answers", {}, max_new_tokens=4)
    assert after == read_answers(tmp_path / "answers")
    assert after != before and len(after) == 6

    said = {row["question"]: "Yes." if row["label"] == "yes" else "no" for row in rows}
    monkeypatch.setattr(callback, "_answers", lambda benchmark, rows: [said[row["question"]] for row in rows])
    assert callback.measure() == {"eval_pope_f1": 1, "eval_pope_accuracy": 1, "eval_pope_yes_share": 0.5}


def test_what_is_no_share_is_on_its_own_scale(tmp_path, folder, monkeypatch):
    for name in ("color", "color/images", "color/questions_answers_YN"):
        (tmp_path / name).mkdir()
    tiny_image().save(tmp_path / "color" / "images" / "1.png")
    (tmp_path / "color" / "questions_answers_YN" / "1.txt").write_text("Red?\tYes\nBlue?\tNo\n")
    trainer = dpo_trainer(tmp_path / "run")
    mme = {"mme": MMEBenchmark(mme_data=str(tmp_path))}
    callback = BenchmarkCallback(trainer, mme, image_folder=tmp_path)
    monkeypatch.setattr(callback, "_answers", lambda benchmark, rows: ["yes", "yes"])
    assert callback.measure() == {"eval_mme_perception": pytest.approx(50)}


def test_random_numbers_stay_as_they_are(tmp_path, folder, monkeypatch):
    trainer = dpo_trainer(tmp_path)
    callback = BenchmarkCallback(trainer, pope(folder), image_folder=folder)

    def complete(self, model, requests):
        return [str(random.random() + np.random.rand() + torch.rand(1).item()) for _ in requests]

    monkeypatch.setattr(Completer, "complete", complete)

    def numbers():
        return random.random(), np.random.rand(), torch.rand(1).item()

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    undisturbed = numbers(), numbers()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    first = numbers()
    callback.measure()
    assert (first, numbers()) == undisturbed
    with pytest.raises(KeyError), same_random_numbers(torch.device("cpu")):
        torch.rand(1)
        raise KeyError


@pytest.mark.parametrize("name", ["steps", "max_new_tokens", "batch_size"])
def test_settings_out_of_range_are_refused(tmp_path, folder, name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        BenchmarkCallback(dpo_trainer(tmp_path), pope(folder), image_folder=folder, **{name: 0})


def test_fsdp_is_refused(folder):
    with pytest.raises(ValueError, match="under FSDP.*`trl-mm eval` on the checkpoints"):
        BenchmarkCallback(SimpleNamespace(is_fsdp_enabled=True), pope(folder), image_folder=folder)
