"""What a launch through accelerate cannot do with the settings of a command."""

import logging
import os


logger = logging.getLogger(__name__)


def splits_weights(training_args):
    """Whether processes hold a part of each weight: ZeRO-3 or FSDP, as accelerate has started them (`bool`)."""
    plugin = training_args.deepspeed_plugin
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return fsdp or (plugin is not None and plugin.zero_stage == 3)


def check_quantization(model_args, splits_weights):
    """
    Refuse quantized weights that cannot be split over processes, see PEFT's documentation of DeepSpeed and FSDP.

    Args:
        model_args ([`~trl.ModelConfig`]): how the model is loaded.
        splits_weights (`bool`): whether ZeRO-3 or FSDP splits its weights.
    """
    if not splits_weights:
        return
    whole = "keep the weights whole (`--accelerate_config zero2` or `ddp`)"
    if model_args.load_in_8bit:
        raise ValueError(
            "`load_in_8bit` does not work with ZeRO-3 or FSDP, which split weights over processes. Set `load_in_4bit` "
            f"and `bnb_4bit_quant_storage: bfloat16` instead, or {whole}."
        )
    if model_args.load_in_4bit and model_args.bnb_4bit_quant_storage in (None, "uint8"):
        raise ValueError(
            "`load_in_4bit` works with ZeRO-3 or FSDP, which split weights over processes, only if they are stored as "
            f"the data type of the others. Set `bnb_4bit_quant_storage: bfloat16`, or {whole}."
        )


def check_saving(state):
    """Warn of a launch (`state`: [`~accelerate.state.AcceleratorState`]) that leaves the trained weights in pieces."""
    kind = state.distributed_type.value
    if kind == "DEEPSPEED" and state.deepspeed_plugin.zero_stage == 3:
        zero = state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        setting, cure = "zero3_save_16bit_model: true", "zero_to_fp32.py in a checkpoint"
        whole = zero.get("stage3_gather_16bit_weights_on_model_save", False)
    elif kind == "FSDP":
        setting, cure = "fsdp_state_dict_type: FULL_STATE_DICT", "accelerate merge-weights"
        whole = "FULL_STATE_DICT" in str(state.fsdp_plugin.state_dict_type)
    else:
        return
    if not whole:
        logger.warning(
            "The accelerate config does not put weights together when they are saved, so `output_dir` will hold no "
            "model. Set `%s` in it, or put them together with %s.",
            setting, cure,
        )  # fmt: skip
