"""Kernels that are asked for give the losses of those that are not, and what cannot work is refused with the cure."""

import sys
from types import MethodType, ModuleType

import pytest
import torch
import transformers.integrations.liger
from peft import LoraConfig, get_peft_model
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_model, tiny_row
from support.training import losses
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from trl import DPOConfig, ModelConfig

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig
from trl_mm.generation.decoding import generating
from trl_mm.scripts.preflight import check_training
from trl_mm.trainer import kernels
from trl_mm.trainer.prefix_sharing.enable import bare_models
from trl_mm.trainer.reward_config import MMRewardConfig
from trl_mm.trainer.rows_config import fill_defaults


WORDS = "There is a red circle dog and blue".split()


def trainer_of(checkpoint, folder, lora=True, **settings):
    """Rows with images and answers of many lengths."""
    rows = [{**tiny_row(n, size=(30 + 20 * n, 40)), "rejected": said(" ".join(WORDS[: n + 1]))} for n in range(6)]
    return MMDPOTrainer(
        checkpoint,
        args=MMDPOConfig(
            str(folder),
            **{
                **TRAINING,
                "per_device_train_batch_size": 2,
                "max_steps": 3,
                "logging_steps": 1,
                "learning_rate": 1e-2,
                **settings,
            },
        ),
        train_dataset=image_dataset(rows),
        peft_config=LoraConfig(r=2) if lora else None,
    )


# flex_attention


@pytest.mark.parametrize("cls", [MMDPOConfig, MMOnlineDPOConfig, MMRewardConfig, DPOConfig])
@pytest.mark.parametrize("named", ["flex_attention", {"text_config": "flex_attention"}])
def test_flex_attention_is_refused_with_the_cure(tmp_path, cls, named):
    args = cls(str(tmp_path), model_init_kwargs={"attn_implementation": named}, **TRAINING)
    with pytest.raises(ValueError, match="compiled anew for each length.*attn_implementation='sdpa'"):
        fill_defaults(args, MMDPOConfig)


def test_flex_attention_is_refused_before_a_model_is_loaded(tmp_path):
    with pytest.raises(ValueError, match="flex_attention"):
        trainer_of("no/such-model", tmp_path, model_init_kwargs={"attn_implementation": "flex_attention"})
    with pytest.raises(ValueError, match="flex_attention"):
        check_training(
            MMDPOConfig(str(tmp_path), **TRAINING), ModelConfig("no/such", attn_implementation="flex_attention")
        )


def test_a_model_with_flex_attention_is_refused(tmp_path):
    model = tiny_model()
    model.model.language_model.set_attn_implementation("flex_attention")
    with pytest.raises(ValueError, match="flex_attention"):
        trainer_of(model, tmp_path)


# Liger


@pytest.fixture
def liger(monkeypatch):
    """A stand-in for the package: the kinds of language models that it knows, and what it was called with."""
    package, patches = ModuleType("liger_kernel.transformers"), ModuleType("liger_kernel.transformers.monkey_patch")
    package.calls, patches.MODEL_TYPE_TO_APPLY_LIGER_FN = [], {"llama": None}

    def rms_norm(norm, states):
        package.calls.append("norm")
        return norm.weight * torch.nn.functional.rms_norm(states, states.shape[-1:], eps=norm.variance_epsilon)

    def apply(model, **settings):
        package.calls.append((model.config.model_type, settings))
        if model.config.model_type in patches.MODEL_TYPE_TO_APPLY_LIGER_FN:
            for layer in model.layers:
                layer.input_layernorm.forward = MethodType(rms_norm, layer.input_layernorm)

    package._apply_liger_kernel_to_instance = apply
    for name, module in {"liger_kernel": ModuleType("liger_kernel"), package.__name__: package}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, patches.__name__, patches)
    monkeypatch.setattr(transformers.integrations.liger, "is_liger_kernel_available", lambda: True)
    return package


LAYERS_ONLY = {"cross_entropy": False, "fused_linear_cross_entropy": False}


@pytest.mark.parametrize("lora", [True, False])
def test_policy_and_reference_get_ligers_layers_and_losses_stay(checkpoint, tmp_path, liger, lora):
    plain = losses(trainer_of(checkpoint, tmp_path, lora))
    trainer = trainer_of(checkpoint, tmp_path, lora)
    # As on a GPU, without which the arguments are refused
    trainer.args.use_liger_kernel, trainer.args.liger_kernel_config = True, LAYERS_ONLY
    kernels.prepare_kernels(bare_models(trainer), trainer.args, is_sharded=False)
    assert liger.calls == [("llama", LAYERS_ONLY)] * (1 if lora else 2)
    assert losses(trainer) == pytest.approx(plain, abs=1e-5)
    # transformers asks Liger once more, for a type that it does not know
    assert ("llava_next", LAYERS_ONLY) in liger.calls and "norm" in liger.calls


def test_a_language_model_that_liger_does_not_know_is_refused(liger):
    model = tiny_model().model.language_model
    model.config.model_type = "novel"
    with pytest.raises(ValueError, match="no kernels for `novel` language models.*Leave it out"):
        kernels.apply_liger(model, LAYERS_ONLY)


def test_liger_needs_a_gpu(tmp_path):
    args = MMDPOConfig(str(tmp_path), use_liger_kernel=True, **TRAINING)
    with pytest.raises(ValueError, match="`use_liger_kernel=True` needs a GPU"):
        kernels.check_kernels(args)


@pytest.mark.parametrize("name", ["cross_entropy", "fused_linear_cross_entropy"])
def test_ligers_kernels_of_the_whole_model_are_refused_or_off(tmp_path, monkeypatch, name):
    args = MMDPOConfig(str(tmp_path), use_liger_kernel=True, **TRAINING)
    args.use_cpu = False
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    args.liger_kernel_config = {"rope": False}
    kernels.check_kernels(args)
    assert args.liger_kernel_config == {"rope": False, **LAYERS_ONLY}
    args.liger_kernel_config = {name: True}
    with pytest.raises(ValueError, match=f"sets `{name}`.*Leave it out"):
        kernels.check_kernels(args)


# torch.compile


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # TorchDynamo's own look
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_compiled_layers_give_the_same_losses_for_all_lengths(checkpoint, tmp_path, gradient_checkpointing):
    """With TorchDynamo alone (`eager`): code for the CPU takes minutes to compile."""
    settings = {"gradient_checkpointing": gradient_checkpointing}
    plain = losses(trainer_of(checkpoint, tmp_path, **settings))
    torch._dynamo.reset()
    counters.clear()
    trainer = trainer_of(checkpoint, tmp_path, torch_compile=True, torch_compile_backend="eager", **settings)
    assert losses(trainer) == pytest.approx(plain, abs=1e-5)
    # With and without adapters, with and without gradients: not for each layer, nor for each length
    assert 1 < counters["stats"]["unique_graphs"] <= 4 and not counters["graph_break"]
    assert not isinstance(trainer.model_wrapped, torch._dynamo.OptimizedModule)
    compiled = counters["stats"]["unique_graphs"]
    (model,) = bare_models(trainer)
    with generating(model):
        ids = torch.tensor([[5, 6, 7]])
        model.generate(input_ids=ids, max_new_tokens=3, do_sample=False)
    assert counters["stats"]["unique_graphs"] == compiled
    assert set(trainer.model.state_dict()) == set(trainer_of(checkpoint, tmp_path).model.state_dict())


def test_compiled_layers_under_deepspeed_and_fsdp_are_refused(tmp_path):
    args = MMDPOConfig(str(tmp_path), **TRAINING)
    args.torch_compile = True
    with pytest.raises(ValueError, match="does not go with DeepSpeed or FSDP.*DDP"):
        kernels.prepare_kernels([tiny_model()], args, is_sharded=True)


# Casts


class Casts(TorchDispatchMode):
    """Counts changes of data type."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].dtype != out.dtype:
            self.count += 1
        return out


def adapted(dropout=0.0, **settings):
    model = tiny_model().bfloat16()
    targets = r".*language_model.*\.(q_proj|v_proj|down_proj)"
    model = get_peft_model(
        model, LoraConfig(r=2, target_modules=targets, lora_dropout=dropout, init_lora_weights=False, **settings)
    )
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    return model.train()


def outputs(model, autocast=True):
    states = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Casts() as casts:
        found = model.get_base_model().model.language_model(inputs_embeds=states).last_hidden_state
    found.float().square().sum().backward()
    grads = [weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None]
    return found, grads, casts.count


@pytest.mark.parametrize("autocast", [True, False])
def test_adapters_cast_less_under_autocast_and_compute_the_same(autocast):
    torch.manual_seed(0)
    model = adapted()
    expected, expected_grads, before = outputs(model, autocast)
    model.zero_grad()
    kernels.spare_casts(model.get_base_model())
    found, grads, after = outputs(model, autocast)
    assert torch.equal(found, expected)
    assert all(torch.equal(grad, wanted) for grad, wanted in zip(grads, expected_grads, strict=True))
    # Of the input of each of 6 adapters: to float32 and back
    assert before - after == (12 if autocast else 0)


def test_other_kinds_of_adapters_stay_as_they_are():
    model = adapted(use_dora=True).get_base_model()
    kernels.spare_casts(model)
    assert not any("_cast_input_dtype" in vars(module) for module in model.modules())
