"""`MMDPOTrainer` beside TRL's `DPOTrainer` on the same rows, and with pairs made on the way."""

import json
import logging

import pytest
import torch
from datasets import Dataset, Image, List
from peft import LoraConfig
from support.rows import image_dataset as dataset
from support.rows import said
from support.tiny import TRAINING, WHOLE_TEMPLATE, bare_processor, tiny_processor, tiny_row
from support.training import losses
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer
from trl_mm.data.loading import load_preferences


FAST = {"similarity": "lexical", "max_sentence_tokens": 5, "max_answer_tokens": 5}


def sft_rows(count=6):
    return [tiny_row(seed, size=(30 + 10 * seed, 40)) for seed in range(count)]


def pairs(count=6):
    return [
        {**row, "rejected": said("There is a dog." * (1 + index % 3))} for index, row in enumerate(sft_rows(count))
    ]


def arguments(folder, cls=MMDPOConfig, **settings):
    return cls(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "max_steps": 4,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            **TRAINING,
            **settings,
        }
    )


def test_begin_and_end_tokens_are_added_where_the_chat_template_leaves_them_out(checkpoint, tmp_path, caplog):
    """The losses are those of TRL with a template that writes them; with this one TRL trains without."""
    caplog.set_level(logging.INFO, "trl_mm")
    found = [
        losses(cls(checkpoint, args=args, train_dataset=dataset(pairs()), processing_class=processor))
        for cls, args, processor in (
            (MMDPOTrainer, arguments(tmp_path, max_length=None), bare_processor()),
            (DPOTrainer, arguments(tmp_path, DPOConfig, max_length=None), bare_processor(WHOLE_TEMPLATE)),
            (DPOTrainer, arguments(tmp_path, DPOConfig, max_length=None), bare_processor()),
        )
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert found[0][1:] != pytest.approx(found[2][1:], abs=1e-3)
    assert "writes no BOS token" in caplog.text and "writes no EOS token" in caplog.text


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge"])
def test_losses_are_those_of_trl_step_by_step(checkpoint, tmp_path, loss_type):
    settings = {"loss_type": loss_type, "max_length": None}
    ours = MMDPOTrainer(
        checkpoint, args=arguments(tmp_path, prefix_sharing=False, **settings), train_dataset=dataset(pairs())
    )
    theirs = DPOTrainer(checkpoint, args=arguments(tmp_path, DPOConfig, **settings), train_dataset=dataset(pairs()))
    assert losses(ours) == losses(theirs)
    for name, parameter in ours.model.named_parameters():
        assert torch.equal(parameter, theirs.model.get_parameter(name)), name


def test_a_plain_dpo_config_and_positional_arguments_work(checkpoint, tmp_path):
    trainer = MMDPOTrainer(
        checkpoint, None, arguments(tmp_path, DPOConfig, max_length=None, max_steps=1), None, dataset(pairs(2))
    )
    assert len(losses(trainer)) == 1


def test_text_only_rows_train_beside_image_rows(checkpoint, tmp_path):
    rows = [{**row, "images": []} if index % 2 else row for index, row in enumerate(pairs())]
    assert len(losses(MMDPOTrainer(checkpoint, args=arguments(tmp_path), train_dataset=dataset(rows)))) == 4


@pytest.mark.parametrize("prefix_sharing", [True, False])
def test_the_beginning_of_both_answers_in_the_prompt_does_not_change_the_loss(checkpoint, tmp_path, prefix_sharing):
    """It is as likely in both answers, so the loss of DPO does not see it there either; IPO's averages over tokens."""
    begun = said("There is a dog.")
    split = [
        {
            **row,
            "prompt": [*row["prompt"], *begun],
            "chosen": said(" It is late."),
            "rejected": said(" The sky is blue!"),
        }
        for row in sft_rows()
    ]
    whole = [
        {**row, "chosen": said("There is a dog. It is late."), "rejected": said("There is a dog. The sky is blue!")}
        for row in sft_rows()
    ]
    settings = {"max_length": None, "prefix_sharing": prefix_sharing}
    found = [
        [
            losses(MMDPOTrainer(checkpoint, args=arguments(tmp_path, **more, **settings), train_dataset=dataset(rows)))
            for rows in (split, whole)
        ]
        for more in ({}, {"loss_type": "ipo"})
    ]
    assert found[0][0] == pytest.approx(found[0][1], abs=1e-5)
    assert found[1][0][1:] != pytest.approx(found[1][1][1:], abs=1e-3)


@pytest.mark.parametrize("online", [True, False])
def test_equal_seeds_give_equal_losses_with_pairs_made_on_the_way(checkpoint, tmp_path, online):
    def run(name, **settings):
        generator = BDHSDataGenerator(BDHSConfig(**FAST, **settings), online=online)
        trainer = MMDPOTrainer(
            checkpoint, args=arguments(tmp_path / name), train_dataset=dataset(sft_rows()), callbacks=[generator]
        )
        return losses(trainer), trainer

    first, trainer = run("first")
    assert len(first) == 4 and all(loss > 0 for loss in first)
    assert first == run("second")[0]
    assert first != run("third", seed=1)[0]
    names = {"attempts", "acceptance_rate", "similarity", "unguided_rate", "answers_per_second"}
    assert {f"bdhs/{name}" for name in names} <= set(trainer.state.log_history[0])
    assert ("bdhs/attempts" in trainer.state.log_history[1]) == online  # those made before training are logged once
    if not online:
        manifest = json.loads((tmp_path / "first" / "pairs" / "manifest.json").read_text())
        assert manifest["complete"] and manifest["settings"]["bdhs"]["mask_threshold"] == 0.99


@pytest.mark.parametrize("mode", [{"mode": "noise"}, {"mode": "povid"}, {"guided": False}], ids=str)
def test_each_mode_trains_a_step_with_pairs_made_on_the_way(checkpoint, tmp_path, mode):
    trainer = MMDPOTrainer(
        checkpoint,
        args=arguments(tmp_path, max_steps=1),
        train_dataset=dataset(sft_rows(2)),
        callbacks=[BDHSDataGenerator(BDHSConfig(**FAST, **mode))],
    )
    (loss,) = losses(trainer)
    assert loss > 0
    assert ("bdhs/acceptance_rate" in trainer.state.log_history[0]) == (mode != {"mode": "povid"})


def test_online_pairs_come_from_the_current_policy(checkpoint, tmp_path):
    """The same row is answered differently once the policy has moved: later losses depend on earlier updates."""
    asked = []

    class Recorder(BDHSDataGenerator):
        def sample(self, model, processor, rows, step):
            asked.append((step, model.lm_head.weight.detach().clone()))
            return super().sample(model, processor, rows, step)

    losses(
        MMDPOTrainer(
            checkpoint,
            args=arguments(tmp_path, max_steps=3),
            train_dataset=dataset(sft_rows()),
            callbacks=[Recorder(BDHSConfig(**FAST))],
        )
    )
    assert [step for step, _ in asked] == [0, 1, 2]
    assert not torch.equal(asked[0][1], asked[2][1])


def test_evaluation_makes_pairs_as_well(checkpoint, tmp_path):
    trainer = MMDPOTrainer(
        checkpoint,
        args=arguments(tmp_path),
        train_dataset=dataset(sft_rows()),
        eval_dataset=dataset(sft_rows(3)),
        callbacks=[BDHSDataGenerator(BDHSConfig(**FAST))],
    )
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(torch.log(torch.tensor(2.0)).item())  # policy and reference agree
    assert metrics["eval_loss"] == trainer.evaluate()["eval_loss"]


def test_a_new_dataset_is_evaluated_like_one_from_the_start(checkpoint, tmp_path):
    rows = pairs(3)
    names = ("prompt", "chosen", "rejected")
    new = [{"image": row["images"][0], **{name: row[name] for name in names}} for row in rows]  # TRL's other name
    new = Dataset.from_list(new).cast_column("image", Image())
    trainer = MMDPOTrainer(
        checkpoint,
        args=arguments(tmp_path, loss_type="sft"),
        train_dataset=dataset(pairs(4)),
        eval_dataset=dataset(rows),
    )
    expected = trainer.evaluate()["eval_loss"]
    assert trainer.evaluate(new)["eval_loss"] == expected
    found = trainer.evaluate({"a": new, "b": new.select([0])})
    assert found["eval_a_loss"] == expected != found["eval_b_loss"]
    trainer.evaluate(new, metric_key_prefix="train")
    assert set(trainer.fit_report) == {"train", "eval", "eval_a", "eval_b", "eval_train"}
    assert len(trainer.fit_report["train"].counts) == 4
    with pytest.raises(ValueError, match="test dataset, row 0: column `chosen` is missing"):
        trainer.evaluate(new.remove_columns("chosen"), metric_key_prefix="test")


@pytest.mark.parametrize("prompt", ["USER: <image>\nDescribe the image. ASSISTANT:", "Describe the image."])
def test_a_prompt_with_the_template_on_it_is_warned_of(checkpoint, tmp_path, caplog, prompt):
    texts = {"prompt": prompt, "chosen": "There is a red circle.", "rejected": "There is a dog."}
    rows = dataset([{"images": row["images"], **texts} for row in pairs(2)])
    with caplog.at_level("WARNING", logger="trl_mm"):
        MMDPOTrainer(checkpoint, args=arguments(tmp_path), train_dataset=rows)
    warned = "`prompt` of 2 rows of the train dataset ends with 'ASSISTANT:'" in caplog.text
    assert warned == prompt.endswith("ASSISTANT:")


def stored(folder):
    """Pairs on disk, images left out."""
    return sorted(load_preferences(folder).remove_columns("images").to_list(), key=lambda pair: str(pair))


GENERATORS = {
    "pairs": None,
    "online": {"save_to": "kept"},
    "online and stored": {"save_to": "kept", "rejected_weight": 0.5},
    "before": {"online": False, "save_to": "kept"},
}


@pytest.mark.parametrize(
    ("generator", "lora"),
    [
        ("pairs", False),
        ("pairs", True),
        ("online", False),
        ("online and stored", True),
        ("before", False),
        pytest.param("before", True, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(checkpoint, tmp_path, monkeypatch, lora, generator):
    """Also if it was killed while it wrote pairs: those of later steps are neither lost nor there twice."""
    options = GENERATORS[generator]

    def run(folder, resume=None, until=None):
        monkeypatch.chdir(folder)
        callbacks = [] if options is None else [BDHSDataGenerator(BDHSConfig(**FAST), **options)]
        trainer = MMDPOTrainer(
            checkpoint,
            args=arguments(
                "out",
                save_strategy="steps",
                save_steps=2,
                lr_scheduler_type="constant",
                gradient_accumulation_steps=2,
            ),
            train_dataset=dataset(pairs(16) if options is None or "rejected_weight" in options else sft_rows(16)),
            callbacks=[*callbacks, Killed(until)],
            peft_config=LoraConfig(target_modules=["q_proj"]) if lora else None,
        )
        if until is None:
            trainer.train(resume_from_checkpoint=resume)
        else:
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    undisturbed = run(tmp_path / "undisturbed")
    assert len(undisturbed) == 4 and undisturbed[2:] != undisturbed[:2]
    run(tmp_path / "killed", until=3)
    assert run(tmp_path / "killed", "out/checkpoint-2") == pytest.approx(undisturbed, rel=1e-5)
    if options is not None:
        assert stored(tmp_path / "killed" / "kept") == stored(tmp_path / "undisturbed" / "kept")
        assert len(stored("kept")) == 16


class Killed(TrainerCallback):
    """Ends a run in the middle of a step."""

    def __init__(self, until):
        self.until = until

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == self.until:
            raise KeyboardInterrupt


@pytest.mark.parametrize("online", [True, False])
def test_a_stored_rejected_answer_is_not_looked_at(checkpoint, tmp_path, online):
    def run(rows):
        generator = BDHSDataGenerator(BDHSConfig(**FAST), online=online, save_to=str(tmp_path / str(len(rows[0]))))
        return losses(
            MMDPOTrainer(checkpoint, args=arguments(tmp_path), train_dataset=dataset(rows), callbacks=[generator])
        )

    assert run(pairs()) == run(sft_rows())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_resumed_run_has_its_learning_rates(checkpoint, tmp_path, lora):
    def run(resume=None):
        trainer = MMDPOTrainer(
            checkpoint,
            args=arguments(tmp_path, save_strategy="steps", save_steps=2, projector_learning_rate=5e-2),
            train_dataset=dataset(pairs()),
            peft_config=LoraConfig(target_modules=["q_proj"]) if lora else None,
        )
        trainer.train(resume_from_checkpoint=resume)
        steps = [entry for entry in trainer.state.log_history if "loss" in entry]
        rates = [(group["initial_lr"], group["lr"]) for group in trainer.optimizer.param_groups]
        return [(step["loss"], step["grad_norm"]) for step in steps], rates, dict(trainer.model.named_parameters())

    losses, rates, weights = run()
    assert losses[2:] != losses[:2] and len(set(rates)) == 2
    resumed = run(str(tmp_path / "checkpoint-2"))
    assert resumed[:2] == (losses, rates)
    assert all(torch.equal(resumed[2][name], value) for name, value in weights.items())


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_best_checkpoint_is_loaded_at_the_end(checkpoint, tmp_path, lora):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "rewards/margins", "greater_is_better": False}
    every = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = MMDPOTrainer(
        checkpoint,
        args=arguments(tmp_path, max_steps=2, save_total_limit=1, **best, **every),
        train_dataset=dataset(pairs(2)),
        eval_dataset=dataset(pairs(2)),
        peft_config=LoraConfig(target_modules=["q_proj"]) if lora else None,
    )
    trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    margins = [entry["eval_rewards/margins"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert margins[0] != margins[1]
    assert trainer.evaluate()["eval_rewards/margins"] == pytest.approx(margins[0], rel=1e-5)


def test_streams_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="train dataset is a stream"):
        MMDPOTrainer(checkpoint, args=arguments(tmp_path), train_dataset=dataset(pairs()).to_iterable_dataset())


def test_rows_without_rejected_and_without_generator_name_the_column(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="train dataset.*`rejected` is missing"):
        MMDPOTrainer(checkpoint, args=arguments(tmp_path), train_dataset=dataset(sft_rows()))


def test_overlong_prompts_are_dropped_and_counted_or_refused_before_training(checkpoint, tmp_path, caplog):
    rows = pairs(3)
    rows[1]["prompt"] = [{"role": "user", "content": "Describe the image. " * 40}]
    settings = {"max_length": 120, "max_steps": 1}
    trainer = MMDPOTrainer(checkpoint, args=arguments(tmp_path, **settings), train_dataset=dataset(rows))
    assert trainer.train_dataset["row_id"][:] == ["0", "2"]
    assert "1 of 3 rows" in caplog.text and "`max_length` (120)" in caplog.text
    assert len(losses(trainer)) == 1
    with pytest.raises(ValueError, match="1 of 3 rows.*raise `max_length`"):
        MMDPOTrainer(checkpoint, args=arguments(tmp_path, overlong="error", **settings), train_dataset=dataset(rows))


def test_bad_images_are_refused_or_skipped_before_training(checkpoint, tmp_path):
    path = tmp_path / "bad.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    rows = pairs(3)
    stored = dataset(rows).cast_column("images", List(Image(decode=False))).to_list()
    stored[1]["images"] = [{"path": str(path), "bytes": None}]
    broken = dataset(stored)
    with pytest.raises(ValueError, match="bad.png"):
        MMDPOTrainer(checkpoint, args=arguments(tmp_path / "out"), train_dataset=broken)
    trainer = MMDPOTrainer(checkpoint, args=arguments(tmp_path / "out", on_bad_image="skip"), train_dataset=broken)
    assert trainer.train_dataset["row_id"][:] == ["0", "2"]
    assert "bad.png" in (tmp_path / "out" / "bad_rows.jsonl").read_text()


def test_a_tokenizer_is_no_processor(checkpoint, tmp_path):
    with pytest.raises(TypeError, match="`processing_class` must be the processor"):
        MMDPOTrainer(
            checkpoint,
            args=arguments(tmp_path),
            train_dataset=dataset(pairs()),
            processing_class=tiny_processor().tokenizer,
        )


@pytest.mark.parametrize("setting", ["overlong", "on_bad_image"])
def test_unknown_settings_list_the_known_ones(setting, tmp_path):
    with pytest.raises(ValueError, match=f"`{setting}` must be one of .*error.*got 'keep'"):
        arguments(tmp_path, **{setting: "keep"})
