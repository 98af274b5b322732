"""Losses and gradients beside TRL's layout, over random lengths, images and batches."""

import inspect
import itertools
import logging
import re

import pytest
import torch
import transformers.integrations.flex_attention
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from support.rows import image_dataset
from support.tiny import TRAINING, counted_images, tiny_model, tiny_processor, tiny_row
from torch.nn.attention.flex_attention import flex_attention
from transformers import CLIPVisionModel
from trl import DPOConfig, DPOTrainer
from trl.trainer import add_fused_lm_head
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from trl_mm import MMDPOConfig, MMDPOTrainer
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.prefix_sharing.image_features import SharedFeatures, same_vision_part
from trl_mm.trainer.prefix_sharing.shared_forward import share_prefixes, unsupported_reason


PROCESSOR = tiny_processor()
FIELDS = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
WORDS = ["There", "is", "a", "red", "circle.", "dog", "and", "3.5", "blue!"]


def pair(seed, chosen, rejected, size=(40, 30), images=1, question="Describe the image."):
    row = tiny_row(seed, answer=chosen)
    return {
        **row,
        "images": [tiny_row(seed + index, size=size)["images"][0] for index in range(images)],
        "prompt": [{"role": "user", "content": question}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
pairs = st.builds(
    pair,
    st.integers(0, 9),
    texts,
    texts,
    st.sampled_from([(40, 30), (30, 60), (90, 30), (20, 20)]),
    st.integers(0, 2),
    texts,
)


def model_with_head(attention="sdpa"):
    model = tiny_model(scale=6)
    model.set_attn_implementation(attention)
    add_fused_lm_head(model, outputs=FIELDS)
    return model


def forward(model, batch):
    batch = dict(batch)
    completion_mask = batch.pop("completion_mask")
    labels = batch["input_ids"].masked_fill(completion_mask == 0, -100)
    return model(**batch, labels=labels, fused_lm_head=True, use_cache=False)


def run(model, batch):
    """Outputs, and gradients of a loss that weighs every log-probability differently."""
    outputs = forward(model, batch)
    weights = torch.arange(outputs.log_probs.numel()).view(outputs.log_probs.shape).cos()
    model.zero_grad()
    (outputs.log_probs * weights).sum().backward()
    return outputs, [p.grad.clone() if p.grad is not None else None for p in model.parameters()]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@settings(max_examples=15)
@given(st.lists(pairs, min_size=1, max_size=3), st.sampled_from([None, 45, 60]))
def test_outputs_and_gradients_are_those_of_trls_layout(attention, rows, max_length):
    shared = model_with_head(attention)
    share_prefixes(shared)
    theirs = DataCollatorForVisionPreference(PROCESSOR, max_length)([{**row} for row in rows])
    assume(theirs["completion_mask"].any(1).all())  # the trainer drops other rows
    ours = PreferenceCollator(PROCESSOR, max_length, images_per_prompt=True)(rows)
    expected, expected_grads = run(model_with_head(attention), theirs)
    outputs, grads = run(shared, ours)
    for name in FIELDS:
        value, wanted = getattr(outputs, name).float(), getattr(expected, name).float()
        torch.testing.assert_close(value, wanted, atol=2e-4, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    for grad, wanted in zip(grads, expected_grads, strict=True):
        assert (grad is None) == (wanted is None)
        if grad is not None:
            torch.testing.assert_close(grad, wanted, atol=1e-3 * max(1, wanted.abs().max().item()), rtol=1e-3)


def test_three_answers_share_a_prompt_as_well():
    model = model_with_head()
    prompt, answers = [5, 6, 7, 8], [[9, 10], [11], [12, 13, 14]]
    ids = torch.tensor([prompt + answer + [0] * (3 - len(answer)) for answer in answers])
    mask = torch.tensor([[0] * 4 + [1] * len(answer) + [0] * (3 - len(answer)) for answer in answers])
    batch = {"input_ids": ids, "attention_mask": (ids != 0).long(), "completion_mask": mask}
    expected, _ = run(model, batch)
    share_prefixes(model)
    outputs, _ = run(model, {**batch, "num_branches": 3})
    torch.testing.assert_close(outputs.log_probs, expected.log_probs, atol=1e-4, rtol=1e-4)


def test_the_collator_processes_each_image_once_and_keeps_trls_tokens():
    rows = [pair(0, "a red circle.", "dog"), pair(1, "There", "is a dog", size=(90, 30)), pair(2, "a", "b", images=0)]
    ours = PreferenceCollator(PROCESSOR, images_per_prompt=True)(rows)
    theirs = DataCollatorForVisionPreference(PROCESSOR)([{**row} for row in rows])
    for name in ("input_ids", "attention_mask", "completion_mask"):
        assert torch.equal(ours[name], theirs[name])
    assert len(ours["pixel_values"]) * 2 == len(theirs["pixel_values"]) == 4
    assert torch.equal(ours["image_sizes"], theirs["image_sizes"][:2])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_gives_the_outputs_of_trls_layout(monkeypatch):
    # Uncompiled: torch takes half a minute to compile it, and refuses its backward pass on a CPU
    monkeypatch.setattr(
        transformers.integrations.flex_attention, "WrappedFlexAttention", lambda _: lambda: flex_attention
    )
    rows = [pair(0, "There is a red", "dog"), pair(1, "a", "blue! and a", images=2, question="What is it? Describe.")]
    model = model_with_head()
    model.model.language_model.set_attn_implementation("flex_attention")
    share_prefixes(model)
    with torch.no_grad():
        outputs = forward(model, PreferenceCollator(PROCESSOR, images_per_prompt=True)(rows))
        expected = forward(model_with_head(), DataCollatorForVisionPreference(PROCESSOR)([{**row} for row in rows]))
    torch.testing.assert_close(outputs.log_probs, expected.log_probs, atol=1e-5, rtol=1e-5)


def trainer(
    checkpoint,
    folder,
    prefix_sharing,
    collator=None,
    peft_config=None,
    processing_class=None,
    reference=None,
    **settings,
):
    rows = [pair(n, " ".join(WORDS[: n + 1]), " ".join(WORDS[-n - 2 :]), (30 + 20 * n, 40), n % 3) for n in range(6)]
    args = MMDPOConfig(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "max_steps": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            **TRAINING,
            "prefix_sharing": prefix_sharing,
            **settings,
        }
    )
    dataset = image_dataset(rows)
    return MMDPOTrainer(
        checkpoint,
        ref_model=reference,
        args=args,
        train_dataset=dataset,
        data_collator=collator,
        processing_class=processing_class,
        peft_config=peft_config,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": False},
        {"gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"gradient_checkpointing_kwargs": {"use_reentrant": False}, "loss_type": "ipo"},
        {"loss_type": ["sigmoid", "sft"], "ld_alpha": 0.5},
        {"use_weighting": True},
        {"peft_config": LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)},
    ],
    ids=["plain", "reentrant", "ipo", "sft and ld_alpha", "wpo", "lora"],
)
def test_training_is_that_of_trls_layout(checkpoint, tmp_path, changes):
    curves = []
    for prefix_sharing in (True, False):
        made = trainer(checkpoint, tmp_path, prefix_sharing, **changes)
        made.train()
        names = ("loss", "grad_norm", "rewards/margins", "logps/chosen", "logps/rejected", "entropy", "logits/chosen")
        curves.append([[entry[name] for name in names] for entry in made.state.log_history if "loss" in entry])
    assert len(curves[0]) == 4
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), atol=1e-4, rtol=1e-3)


def rows_of_a_batch(kind, seed):
    """Six pairs of four answers to one prompt, or four questions to one image."""
    answers = [f"{word} {' '.join(WORDS[seed % 3 :])} {word}" for word in ("There", "is", "a", "dog")]
    if kind == "six pairs":
        return [pair(seed, chosen, rejected) for chosen, rejected in itertools.combinations(answers, 2)]
    return [
        pair(seed, answer, answer[::-1], question=f"Is it {word}?")
        for answer, word in zip(answers, ("late", "blue!", "a dog", "red"), strict=True)
    ]


@pytest.mark.parametrize(("kind", "size", "spared"), [("six pairs", 6, 0.8), ("four questions", 4, 0.4)])
def test_losses_of_twenty_steps_are_those_of_trl(kind, size, spared, tmp_path):
    rows = image_dataset([row for seed in range(5) for row in rows_of_a_batch(kind, seed)])
    logs = []
    for trainer_class, config in ((MMDPOTrainer, MMDPOConfig), (DPOTrainer, DPOConfig)):
        args = config(
            output_dir=str(tmp_path),
            per_device_train_batch_size=size,
            max_steps=20,
            learning_rate=1e-3,
            logging_steps=1,
            max_length=None,
            train_sampling_strategy="sequential",
            **TRAINING,
        )
        made = trainer_class(tiny_model(), tiny_model(), args=args, train_dataset=rows, processing_class=PROCESSOR)
        with counted_images(made.model) as images:
            made.train()
        logs.append([entry for entry in made.state.log_history if "loss" in entry])
        assert set(images) == ({1} if trainer_class is MMDPOTrainer else {2 * size})
    ours, theirs = ([entry["loss"] for entry in log] for log in logs)
    assert ours == pytest.approx(theirs, abs=1e-4) and len(ours) == 20 and ours[-1] < 0.6
    for entry, other in zip(*logs, strict=True):
        assert entry["num_tokens"] == other["num_tokens"]
        assert spared < entry["shared_tokens"] < 1 and entry["padding"] == 0  # one group


def test_every_loss_of_trl_is_that_of_its_layout(checkpoint, tmp_path):
    names = sorted(set(re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss))))
    assert len(names) > 10
    losses = []
    for prefix_sharing in (True, False):
        made = trainer(checkpoint, tmp_path, prefix_sharing, label_smoothing=0.1, per_device_train_batch_size=3)
        for parameter in made.model.parameters():  # away from the reference, where several losses are alike
            parameter.data *= 1.05
        batch = made._prepare_inputs(next(iter(made.get_eval_dataloader(made.train_dataset))))
        for name in names:
            made.loss_types, made.loss_weights = [name], [1.0]
            losses.append(made.compute_loss(made.model, batch).item())
    shared, plain = torch.tensor(losses).view(2, -1)
    assert len(set(plain.tolist())) > 10
    torch.testing.assert_close(shared, plain, atol=1e-4, rtol=1e-4)


def test_a_copy_of_the_adapter_as_reference(checkpoint, tmp_path):
    curves = []
    for prefix_sharing in (True, False):
        model = get_peft_model(tiny_model(scale=4), LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.data.copy_(torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter))
        made = trainer(model, tmp_path, prefix_sharing, processing_class=PROCESSOR)
        assert "ref" in made.model.peft_config
        made.train()
        curves.append([[entry[key] for key in ("loss", "grad_norm")] for entry in made.state.log_history[:4]])
    assert curves[0][0][0] == pytest.approx(0.6931, abs=1e-4)
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), atol=1e-4, rtol=1e-3)


def test_bfloat16_is_as_near_to_float32_as_trls_layout_is():
    rows = [pair(0, "There is a red", "dog and a dog"), pair(1, "a", "blue! and a", images=2, question="Is it?")]
    ours = PreferenceCollator(PROCESSOR, images_per_prompt=True)(rows)
    theirs = DataCollatorForVisionPreference(PROCESSOR)([{**row} for row in rows])
    exact = forward(model_with_head(), theirs).log_probs
    errors = []
    for batch, share in ((ours, True), (theirs, False)):
        model = model_with_head().bfloat16()
        if share:
            share_prefixes(model)
        errors.append((forward(model, batch).log_probs.float() - exact).abs().max().item())
    assert errors[0] <= 2 * errors[1] + 1e-3, errors


def test_what_does_not_fit_falls_back_and_says_why(checkpoint, tmp_path, caplog):
    model = tiny_model()
    assert unsupported_reason(model) is None
    model.config.text_config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in unsupported_reason(model)
    model = tiny_model()
    model.config.text_config.sliding_window = 64
    assert "sliding window of 64" in unsupported_reason(model)
    with caplog.at_level(logging.INFO, logger="trl_mm"):
        made = trainer(checkpoint, tmp_path, True, collator=PreferenceCollator(PROCESSOR))
    assert "Prefixes are not shared: a `data_collator`" in caplog.text
    made.train()
    assert not made.data_collator.images_per_prompt


def freeze_vision_part(made):
    for name, parameter in made.model.named_parameters():
        parameter.requires_grad_("language_model" in name or "lm_head" in name)


@pytest.mark.parametrize(
    ("changes", "prepare", "per_step"),
    [
        ({}, None, 2),
        ({}, freeze_vision_part, 1),
        ({"peft_config": LoraConfig(target_modules=["q_proj"], init_lora_weights=False)}, None, 2),
        ({"peft_config": LoraConfig(target_modules=r".*language_model.*q_proj", init_lora_weights=False)}, None, 1),
    ],
    ids=["full", "frozen", "lora everywhere", "lora on the language model"],
)
def test_a_frozen_vision_part_encodes_a_batch_once(checkpoint, tmp_path, changes, prepare, per_step):
    curves, encoded = [], []
    for prefix_sharing in (True, False):
        made = trainer(checkpoint, tmp_path, prefix_sharing, gradient_checkpointing=False, **changes)
        if prepare is not None:
            prepare(made)
        calls = []
        for model in (made.model, made.ref_model):
            for module in model.modules() if model is not None else ():
                if isinstance(module, CLIPVisionModel):
                    module.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        made.train()
        curves.append([[entry[key] for key in ("loss", "grad_norm")] for entry in made.state.log_history[:4]])
        encoded.append(len(calls))
    assert encoded[0] * 2 == encoded[1] * per_step > 0
    torch.testing.assert_close(torch.tensor(curves[0]), torch.tensor(curves[1]), atol=1e-4, rtol=1e-3)


def test_a_reference_that_sees_otherwise_encodes_its_own():
    policy, reference = tiny_model().model, tiny_model().model
    assert same_vision_part(policy, reference)
    reference.multi_modal_projector.linear_1.bias.data += 1
    assert not same_vision_part(policy, reference)
    assert not same_vision_part(policy, tiny_model(seed=1).model)


def test_a_policy_under_adapters_sees_otherwise_than_without():
    assert same_vision_part(tiny_model().model)
    for settings_, alike in (
        ({"target_modules": ["q_proj"]}, False),
        ({"target_modules": r".*language_model.*q_proj"}, True),
        ({"target_modules": r".*language_model.*q_proj", "modules_to_save": ["multi_modal_projector"]}, False),
    ):
        model = get_peft_model(tiny_model(), LoraConfig(**settings_))
        model.requires_grad_(False)  # as it looks while adapters are off
        assert same_vision_part(model.get_base_model().model) == alike


def test_only_the_batch_that_was_read_before_is_taken_for_encoded():
    policy, reference = model_with_head().requires_grad_(False), model_with_head()
    with torch.no_grad():
        reference.lm_head.weight += 0.1
    features, encoded = SharedFeatures(policy.base_model), []
    for model in (policy, reference):
        share_prefixes(model, features)
        model.base_model.vision_tower.register_forward_hook(lambda *_, model=model: encoded.append(model))
    alone = model_with_head()
    alone.load_state_dict(reference.state_dict())
    share_prefixes(alone)
    collator = PreferenceCollator(PROCESSOR, images_per_prompt=True)
    batches = [collator([pair(seed, "There is", "a red dog"), pair(5, "blue!", "a", images=0)]) for seed in range(2)]

    def read(model, batch):
        """Log-probabilities, and which models have encoded images for them."""
        encoded.clear()
        return forward(model, batch).log_probs, list(encoded)

    wanted = [forward(alone, batch).log_probs for batch in batches]
    assert read(policy, batches[0])[1] == [policy]
    got, by = read(reference, batches[0])
    assert torch.equal(got, wanted[0]) and by == []
    assert read(reference, batches[0])[1] == [reference]  # once only
    assert read(policy, batches[1])[1] == [policy]
    copied = {name: value.clone() for name, value in batches[1].items()}
    assert read(reference, copied)[1] == [reference]
    # Pixels that are cast on their way to a model are other tensors, token ids are not
    assert read(policy, batches[1])[1] == [policy]
    got, by = read(reference, {**batches[1], "pixel_values": batches[1]["pixel_values"].clone()})
    assert torch.equal(got, wanted[1]) and by == []


def test_a_reference_that_cannot_share_keeps_the_policy_from_it(checkpoint, tmp_path):
    reference = tiny_model()
    reference.config.text_config._attn_implementation = "flash_attention_2"
    made = trainer(checkpoint, tmp_path, True, reference=reference)
    assert not made.pair_collator.images_per_prompt
    assert made.ref_model.config.text_config._attn_implementation == "flash_attention_2"
