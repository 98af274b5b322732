"""What trains and how fast: real steps, in which all but one part has a learning rate of 0."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from support.families import FAMILIES, family
from support.rows import image_dataset, tiny_pairs
from support.tiny import TRAINING, tiny_model, tiny_processor, tiny_row
from transformers import AutoModelForImageTextToText
from trl import DPOConfig

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.trainer.parts.model_parts import part_of
from trl_mm.trainer.parts.parameter_groups import check_optimizer, trained_parts_table
from trl_mm.trainer.prefix_sharing.enable import bare_models


def make(
    folder,
    model=None,
    processor=None,
    cls=MMDPOConfig,
    peft_config=None,
    optimizers=(None, None),
    trainer=MMDPOTrainer,
    **settings,
):
    """A trainer for two steps."""
    model = tiny_model(scale=4) if model is None else model
    return trainer(
        model,
        ref_model=copy.deepcopy(model) if peft_config is None and not isinstance(model, PeftModel) else None,
        args=cls(
            **{
                "output_dir": str(folder),
                "per_device_train_batch_size": 2,
                "max_steps": 2,
                "learning_rate": 1e-2,
                "logging_steps": 1,
                **TRAINING,
                "gradient_checkpointing": False,
                "max_length": None,
                **settings,
            }
        ),
        train_dataset=image_dataset(tiny_pairs()),
        processing_class=processor or tiny_processor(),
        peft_config=peft_config,
        optimizers=optimizers,
    )


def moved(trainer):
    """Parts of the model that training changes (`set`)."""
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    model_type = trainer.model.config.model_type
    return {
        part_of(name, model_type)
        for name, parameter in trainer.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }


ALL = {"language model", "projector", "vision tower"}


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"projector_learning_rate": 1e-2, "learning_rate": 0.0}, {"projector"}),
        ({"projector_learning_rate": 0.0}, ALL - {"projector"}),
        ({"projector_learning_rate": 0.0, "optim": "sgd"}, ALL - {"projector"}),
        ({"freeze_vision_tower": True}, ALL - {"vision tower"}),
        ({"freeze_projector": True}, ALL - {"projector"}),
        ({"freeze_vision_tower": True, "freeze_projector": True}, {"language model"}),
        ({"freeze_vision_tower": True, "projector_learning_rate": 1e-2, "learning_rate": 0.0}, {"projector"}),
    ],
)
def test_each_part_moves_at_its_own_rate(settings, parts, tmp_path):
    assert moved(make(tmp_path, **settings)) == parts


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, {"language model"}),
        ({"projector_learning_rate": 1e-2, "learning_rate": 0.0}, {"projector"}),
        ({"projector_learning_rate": 0.0}, {"language model"}),
        ({"freeze_vision_tower": True, "freeze_projector": True}, {"language model"}),
    ],
)
def test_each_part_moves_at_its_own_rate_beside_adapters(settings, parts, tmp_path):
    assert moved(make(tmp_path, peft_config=LoraConfig(r=2), **settings)) == parts


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"projector_learning_rate": 1e-2, "learning_rate": 0.0}, {"projector"}),
        ({"freeze_vision_tower": True, "projector_learning_rate": 0.0}, {"language model"}),
        ({"peft_config": LoraConfig(r=2), "projector_learning_rate": 1e-2}, {"language model", "projector"}),
    ],
)
def test_the_online_trainer_moves_parts_alike(settings, parts, tmp_path):
    # On stored pairs alone: what trains does not depend on where answers come from
    online = {"trainer": MMOnlineDPOTrainer, "cls": MMOnlineDPOConfig, "offline_probability": 1.0}
    assert moved(make(tmp_path, **online, **settings)) == parts
    with pytest.raises(ValueError, match=r"\(query\) match no module"):
        make(tmp_path, **online, peft_config=LoraConfig(target_modules=["query"]))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="is for an optimizer that the trainer makes"):
        make(tmp_path, **online, optimizers=(optimizer, None), projector_learning_rate=1e-3)


@pytest.mark.parametrize("name", ["llava_next", "qwen3_vl"])
@pytest.mark.parametrize("autocast", [True, False])
def test_steps_that_half_precision_cannot_add_move_the_projector(name, autocast, tmp_path):
    model, processor = family(name)
    settings = {"model": copy.deepcopy(model).bfloat16(), "processor": processor, "bf16": autocast}
    trainer = make(tmp_path, **settings, peft_config=LoraConfig(r=2), projector_learning_rate=1e-6)
    parts = {n: p for n, p in trainer.model.named_parameters() if "modules_to_save" in n and p.dim() == 2}
    before = {name: weight.clone() for name, weight in parts.items()}
    trainer.train()
    assert parts and all((weight != before[name]).float().mean() > 0.5 for name, weight in parts.items())


@pytest.mark.parametrize("name", FAMILIES)
def test_families_save_the_projector_with_their_adapters(name, tmp_path):
    model, processor = family(name)
    base = copy.deepcopy(model)
    trainer = make(
        tmp_path,
        copy.deepcopy(model),
        processor,
        peft_config=LoraConfig(r=2),
        projector_learning_rate=1e-2,
        freeze_vision_tower=True,
        max_steps=1,
    )
    assert moved(trainer) == {"language model", "projector"}
    trainer.model.save_pretrained(tmp_path / "adapter")
    batch = trainer._prepare_batch(next(iter(trainer.get_eval_dataloader(image_dataset(tiny_pairs())))))
    names = ("pixel_values", "image_sizes", "image_grid_thw", "pixel_attention_mask", "mm_token_type_ids")
    inputs = {key: value for key, value in batch.items() if key in (*names, "token_type_ids")}
    half = len(batch["input_ids"]) // 2  # images come once for both answers
    inputs = {key: value[:half] if key.endswith("type_ids") else value for key, value in inputs.items()}
    inputs |= {key: batch[key][:half] for key in ("input_ids", "attention_mask")}

    def logits(model):
        with torch.no_grad():
            return model.eval()(**inputs).logits

    trained = logits(trainer.model)
    assert (trained - logits(model)).abs().max() > 1e-3
    torch.testing.assert_close(logits(PeftModel.from_pretrained(base, tmp_path / "adapter")), trained)
    # The projector counts: without what was saved of it, the answers are others
    with_projector = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path / "adapter")
    for key, parameter in with_projector.named_parameters():
        if "modules_to_save" in key:
            parameter.data.copy_(
                with_projector.get_parameter(key.replace("modules_to_save.default", "original_module"))
            )
    assert (trained - logits(with_projector)).abs().max() > 1e-3


def test_plain_transformers_loads_the_adapter_and_the_projector(tmp_path):
    tiny_model(scale=4).save_pretrained(tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    trainer = make(tmp_path, model, peft_config=LoraConfig(r=2), projector_learning_rate=1e-2)
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    tiny_processor().save_pretrained(tmp_path / "adapter")
    inputs = tiny_processor()(images=[tiny_row()["images"]], text="<image>\nUSER: There", return_tensors="pt")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, trainer.model.eval()(**inputs).logits)


def test_the_optimizer_has_a_group_for_each_rate_and_decay(tmp_path):
    trainer = make(tmp_path, projector_learning_rate=3e-3, weight_decay=0.1)
    optimizer = trainer.create_optimizer()
    assert trainer.create_optimizer() is optimizer  # as the trainer does under DeepSpeed
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = [(g["lr"], g["weight_decay"], {names[id(p)] for p in g["params"]}) for g in optimizer.param_groups]
    assert [group[:2] for group in groups] == [(1e-2, 0.1), (1e-2, 0), (3e-3, 0.1), (3e-3, 0)]
    assert sorted(name for *_, group in groups for name in group) == sorted(names.values())
    decayed, plain = groups[2][2], groups[3][2]
    assert all("bias" in name for name in plain) and not any("bias" in name for name in decayed)
    assert {"model.image_newline", "model.multi_modal_projector.linear_1.weight"} <= decayed


def test_the_scheduler_scales_both_rates_and_the_language_models_is_logged(tmp_path):
    trainer = make(tmp_path, projector_learning_rate=1e-3, max_steps=4, lr_scheduler_type="linear")
    trainer.train()
    logged = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3])
    assert [group["initial_lr"] for group in trainer.optimizer.param_groups] == [1e-2, 1e-2, 1e-3, 1e-3]
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0] * 4


def test_a_plain_dpo_config_trains_every_part(tmp_path):
    assert moved(make(tmp_path, cls=DPOConfig)) == ALL


def test_frozen_features_serve_policy_and_reference(tmp_path):
    trainer = make(tmp_path, freeze_vision_tower=True, freeze_projector=True, prefix_sharing=True)
    calls = []
    for model in bare_models(trainer):
        model.base_model.vision_tower.register_forward_hook(lambda *_: calls.append(None))
    trainer.train()
    assert len(calls) == 2  # one for each step


def test_a_table_says_what_trains(tmp_path):
    trainer = make(tmp_path, freeze_vision_tower=True, projector_learning_rate=2e-6, learning_rate=5e-6)
    title, *lines = [line.split() for line in trained_parts_table(trainer.model, trainer.args).splitlines()]
    sizes = {part: 0 for part in ALL}
    for name, parameter in trainer.model.named_parameters():
        sizes[part_of(name, "llava_next")] += parameter.numel()
    assert title == "part trained weights learning rate layers with LoRA".split()
    assert lines == [
        ["language", "model", f"{sizes['language model']:,}", "5e-06", "–"],
        ["projector", f"{sizes['projector']:,}", "2e-06", "–"],
        ["vision", "tower", "frozen", "–", "–"],
    ]
    trainer = make(tmp_path, peft_config=LoraConfig(r=2))
    _, language, *others = [line.split() for line in trained_parts_table(trainer.model, trainer.args).splitlines()]
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    assert language == ["language", "model", f"{trained:,}", "0.01", "14"]
    assert [line[-3:] for line in others] == [["frozen", "–", "–"]] * 2


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            LoraConfig(modules_to_save=["multi_modal_projector"]),
            {"freeze_projector": True},
            "trains .*projector.*keep",
        ),
        (LoraConfig(modules_to_save=["vision_tower"]), {"freeze_vision_tower": True}, "trains .*vision_tower"),
    ],
)
def test_a_frozen_part_that_peft_trains_is_refused(config, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, peft_config=config, **settings)


def test_a_rate_for_a_projector_that_does_not_train_is_refused(tmp_path):
    model = get_peft_model(tiny_model(), LoraConfig(target_modules=["o_proj"]))
    with pytest.raises(ValueError, match="no weight of the projector is trained.*`modules_to_save`"):
        make(tmp_path, model, projector_learning_rate=1e-3)


def test_an_optimizer_of_the_user_has_rates_of_its_own(tmp_path):
    model = tiny_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with pytest.raises(ValueError, match="is for an optimizer that the trainer makes"):
        make(tmp_path, model, optimizers=(optimizer, None), projector_learning_rate=1e-3)
    trainer = make(tmp_path, model, optimizers=(optimizer, None))
    assert trainer.create_optimizer() is optimizer and len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["optimizer", "scheduler"])
def test_what_deepspeed_makes_itself_is_refused(name, tmp_path):
    args = MMDPOConfig(str(tmp_path), bf16=False, use_cpu=True, projector_learning_rate=1e-3)
    args.deepspeed_plugin = type("Plugin", (), {"deepspeed_config": {name: {"type": "AdamW"}}})
    with pytest.raises(ValueError, match=f"the `{name}` of a DeepSpeed configuration.*Remove `{name}`"):
        check_optimizer(args)
    args.projector_learning_rate = None
    check_optimizer(args)


def test_an_optimizer_without_groups_is_refused(tmp_path):
    trainer = make(tmp_path, projector_learning_rate=1e-3)
    trainer.optimizer_cls_and_kwargs = (torch.optim.SGD, {"lr": 1.0, "params": [torch.nn.Parameter(torch.ones(1))]})
    with pytest.raises(
        ValueError, match="needs an optimizer with groups of weights, which `optim='adamw_torch.*'` is"
    ):
        trainer.create_optimizer()
