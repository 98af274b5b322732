"""POVID's distortion beside a plain implementation of what is published: a forward per row, no packing, no TRL."""

import copy
import os

import pytest
import torch
from peft import LoraConfig
from support.families import family
from support.rows import image_dataset
from support.tiny import TRAINING, tiny_model, tiny_processor, tiny_row
from torch.nn.functional import logsigmoid

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer
from trl_mm.bdhs.noise import noisy_image
from trl_mm.tokens.chat import render


CHOSEN = ["There is a red circle.", "Yes, a blue sky.", "No.", "It is late, and there is a sofa."]
STORED = ["There is a dog.", "A blue sky. Yes, it is late and there is a red cat.", "No, never.", "Green."]
BETA, GAMMA = 0.3, 0.4


def said(text):
    return None if text is None else [{"role": "assistant", "content": text}]


def rows(stored=STORED):
    made = [tiny_row(n, text, (30 + 20 * n, 40), rejected=said(stored[n])) for n, text in enumerate(CHOSEN)]
    made[2]["images"] = []
    return made


def trainer(folder, dataset, weight=None, models=None, processor=None, lora=False, **settings):
    model, reference = models or (tiny_model(scale=4), tiny_model(scale=4))
    args = {"per_device_train_batch_size": 2, "max_steps": 2, "learning_rate": 1e-3, "logging_steps": 1, "beta": BETA}
    return MMDPOTrainer(
        model,
        ref_model=None if lora else reference,
        args=MMDPOConfig(str(folder), **{**TRAINING, **args, **settings}),
        train_dataset=image_dataset(dataset),
        processing_class=processor or tiny_processor(),
        callbacks=[BDHSDataGenerator(BDHSConfig(mode="povid", seed=5), rejected_weight=weight)],
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]) if lora else None,
    )


def text_ids(processor, text):
    return processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def logits_of(model, processor, row, answer, images):
    """Logits of the places of an answer, of shape `(answer_length, vocabulary)`, and its token ids."""
    rendered = render({**row, "chosen": said(answer)}, processor)
    inputs = processor(
        text=[rendered.prompt], images=[images] if images else None, add_special_tokens=False, return_tensors="pt"
    )
    ids = torch.tensor(text_ids(processor, rendered.lead + rendered.answer + rendered.tail))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids[None]], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        old = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([old, torch.zeros_like(ids)[None]], 1)
    return model(**inputs).logits[0, -len(ids) - 1 : -1], ids


def plain_loss(policy, reference, processor, row, step, weight):
    """L of one row: the published distortion, with a weight beside the stored pair (eq. 5)."""
    text = row["chosen"][0]["content"]
    noisy = [noisy_image(image, 500, (5, step, row["row_id"], 1, n)) for n, image in enumerate(row["images"])]
    ratios = []
    for model in (policy, reference):
        with torch.no_grad():
            likeliest = logits_of(model, processor, row, text, noisy)[0].argmax(-1)  # of the whole vocabulary
        logits, ids = logits_of(model, processor, row, text, row["images"])
        scores = logits.float().log_softmax(-1)
        stored = torch.zeros(())
        if weight is not None and row["rejected"] is not None:
            stored_logits, stored_ids = logits_of(model, processor, row, row["rejected"][0]["content"], row["images"])
            stored = stored_logits.float().log_softmax(-1).gather(1, stored_ids[:, None]).sum()
        chosen, distorted = (scores.gather(1, tokens[:, None]).sum() for tokens in (ids, likeliest))
        ratios.append((chosen - distorted, chosen - stored))
    (distorted, stored), (ref_distorted, ref_stored) = ratios
    loss = -logsigmoid(BETA * (distorted - ref_distorted.detach()))
    if weight is None or row["rejected"] is None:
        return loss
    return weight * -logsigmoid(BETA * (stored - ref_stored.detach())) + (1 - weight) * loss


def moved(model):
    """The model with other weights than those of the reference, so that the likeliest tokens differ too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_loss_and_gradient_are_published(made, dataset, processor, reference, weight, step=7):
    made.state.global_step = step
    model = moved(made.model)
    model.train()
    model.zero_grad()
    batch = made._prepare_inputs({"rows": dataset})
    loss = made.compute_loss(model, batch)
    loss.backward()
    found = gradients(model)
    model.zero_grad()
    expected = torch.stack([plain_loss(model, reference, processor, row, step, weight) for row in dataset]).mean()
    expected.backward()
    # Sums of some ten log-probabilities of up to about 10 each, in float32
    torch.testing.assert_close(loss.detach(), expected.detach(), atol=2e-5, rtol=2e-5)
    wanted = gradients(model)
    assert found.keys() == wanted.keys()
    scale = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4 * scale.item(), rtol=1e-3)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "trl-layout"])
@pytest.mark.parametrize("weight", [None, GAMMA], ids=["alone", "eq5"])
def test_loss_and_gradient_are_those_of_the_published_distortion(tmp_path, weight, shared):
    dataset, processor = rows(), tiny_processor()
    made = trainer(tmp_path, dataset, weight, prefix_sharing=shared)
    assert made.pair_collator.images_per_prompt is shared
    assert_loss_and_gradient_are_published(made, dataset, processor, tiny_model(scale=4), weight)
    assert 0 < made._metrics["train"]["bdhs/changed_rate"][-1] <= 1


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_5_vl", "gemma3"])
def test_it_is_the_same_for_other_families(tmp_path, name):
    model, processor = family(name)
    model, reference = copy.deepcopy(model), copy.deepcopy(model)
    dataset = [row for row in rows() if row["images"]]
    made = trainer(tmp_path, dataset, GAMMA, (model, reference), processor)
    assert made.pair_collator.images_per_prompt
    assert_loss_and_gradient_are_published(made, dataset, processor, reference, GAMMA)


@pytest.mark.parametrize("weight", [None, GAMMA], ids=["alone", "eq5"])
def test_the_reference_of_an_adapter_is_the_base_and_finds_its_own_tokens(tmp_path, weight):
    """It reads a batch first if there is no stored answer, and must not leave the policy its image features."""
    dataset, processor = rows(), tiny_processor()
    made = trainer(tmp_path, dataset, weight, lora=True)
    assert made.ref_model is None
    assert_loss_and_gradient_are_published(made, dataset, processor, tiny_model(scale=4), weight)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "trl-layout"])
def test_a_row_without_a_stored_answer_counts_the_distorted_one_alone(tmp_path, shared):
    dataset = rows([STORED[0], None, None, STORED[3]])
    made = trainer(tmp_path, dataset, GAMMA, prefix_sharing=shared)
    assert_loss_and_gradient_are_published(made, dataset, tiny_processor(), tiny_model(scale=4), GAMMA)


def test_special_tokens_are_chosen_and_scored(tmp_path):
    processor = tiny_processor()
    eos = processor.tokenizer.eos_token_id
    model, reference = tiny_model(scale=4), tiny_model(scale=4)
    for one in (model, reference):
        with torch.no_grad():  # the likeliest token by far, at about half of the places
            one.lm_head.weight[eos] = 100 * one.lm_head.weight[eos].sign()
    dataset = rows()
    made = trainer(tmp_path, dataset, None, (model, reference))
    assert_loss_and_gradient_are_published(made, dataset, processor, reference, None)


def test_it_costs_no_branch_of_its_own(tmp_path):
    """The policy reads the prompt, the chosen answer, and the stored one if that counts: nothing else."""
    for weight, answers in ((None, 1), (GAMMA, 2)):
        dataset = rows()[:1]
        made = trainer(tmp_path, dataset, weight)
        widths = []
        hook = made.model.model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs, widths=widths: widths.append(kwargs["inputs_embeds"].shape[1]),
            with_kwargs=True,
        )
        made.compute_loss(made.model, made._prepare_inputs({"rows": dataset}))
        hook.remove()
        prompt = render(dataset[0], tiny_processor()).prompt
        inputs = tiny_processor()(text=[prompt], images=[dataset[0]["images"]], add_special_tokens=False)
        # Without the EOS token, which predicts nothing
        ids = [text_ids(tiny_processor(), " " + text) for text in (CHOSEN[0], STORED[0])[:answers]]
        alike = len(os.path.commonprefix(ids)) if answers == 2 else 0
        prompt_length = len(inputs["input_ids"][0])
        # To find the likeliest tokens, and then without the EOS tokens and what both answers begin with
        assert widths == [prompt_length + len(ids[0]) + 1, prompt_length + sum(map(len, ids)) - alike]


def test_noise_is_drawn_anew_in_each_step_and_evaluation_has_one(tmp_path):
    dataset = rows()
    made = trainer(tmp_path, dataset)
    generator = made.pair_generator
    first, again, later = (generator.distorted_images(dataset, step) for step in (0, 0, 1))
    assert first[0][0].tobytes() == again[0][0].tobytes() != later[0][0].tobytes() and first[2] == []


def test_training_ends_and_resumes_with_the_same_losses(tmp_path):
    def losses(made, resume=None):
        made.train(resume_from_checkpoint=resume)
        return [entry["loss"] for entry in made.state.log_history if "loss" in entry]

    settings = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    whole = losses(trainer(tmp_path / "whole", rows(), GAMMA, **settings))
    resumed = losses(trainer(tmp_path / "whole", rows(), GAMMA, **settings), str(tmp_path / "whole/checkpoint-1"))
    assert whole == pytest.approx(resumed, rel=1e-5) and len(set(whole)) == 3


def test_evaluation_distorts_too(tmp_path):
    made = trainer(tmp_path, rows(), None, per_device_eval_batch_size=2)
    made.eval_dataset = made.train_dataset
    metrics = made.evaluate()
    assert metrics["eval_loss"] == pytest.approx(0.693, abs=1e-3), "policy and reference are the same"
    assert 0 < metrics["eval_bdhs/changed_rate"] <= 1


@pytest.mark.parametrize(
    "settings", [{"ld_alpha": 0.5}, {"precompute_ref_log_probs": True}], ids=["ld_alpha", "precompute"]
)
def test_what_does_not_go_with_it_is_refused(tmp_path, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        trainer(tmp_path, rows(), **settings)


@pytest.mark.parametrize("settings", [{"save_to": "pairs"}, {"push_to_hub": {"repo_id": "me/pairs"}}])
def test_there_are_no_pairs_to_keep(settings):
    with pytest.raises(ValueError, match="there are no pairs"):
        BDHSDataGenerator(BDHSConfig(mode="povid"), **settings)
    BDHSDataGenerator(BDHSConfig(mode="povid"), online=False, **settings)
