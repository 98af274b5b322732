"""What differs between the families of vision-language models, as data: one table, read by all that needs it.

What a processor, a config or a chat template tells is asked of them and is not here: image tokens and what frames
them, sliding windows, EOS tokens. A family that is not in the table trains in TRL's layout, as a language model and
one vision part.
"""

from dataclasses import dataclass

from transformers import PreTrainedConfig


LANGUAGE_MODEL = ("language_model", "text_model")  # names that model types give it, those outside of the table as well


@dataclass(frozen=True)
class Family:
    """
    A family of models.

    Args:
        projector (`tuple[str, ...]`): names of all between vision tower and language model, within the model that has
            no LM head; empty if they are not known.
        prefix_inputs (`str`, *optional*): what a shared prefix has to build for the language model beside tokens, as a
            key of `INPUTS` in `trainer/prefix_sharing/shared_forward.py`. Without it prefixes are not shared.
        hides_image_tokens (`bool`, *optional*, defaults to `False`): whether images enter as a run of embeddings under
            plain causal attention and one-dimensional positions, so that dropping some is the same as masking them.
        repeats_settings (`bool`, *optional*, defaults to `False`): whether the processor counts image tokens by
            settings of the model that it repeats, so that the two must agree.
    """

    projector: tuple[str, ...]
    prefix_inputs: str | None = None
    hides_image_tokens: bool = False
    repeats_settings: bool = False


def family_of(config: PreTrainedConfig) -> Family:
    """The [`Family`] of a model with this configuration; `UNKNOWN` if it is not in the table."""
    return FAMILIES.get(config.model_type, UNKNOWN)


UNKNOWN = Family(())
LLAVA = Family(("multi_modal_projector",), "causal", hides_image_tokens=True, repeats_settings=True)
# Model type, as the configuration says, to family
FAMILIES = {
    "llava": LLAVA,
    "llava_next": Family(
        ("multi_modal_projector", "image_newline"), "causal", hides_image_tokens=True, repeats_settings=True
    ),
    "vipllava": LLAVA,
    "llava_onevision": Family(("multi_modal_projector", "image_newline"), "causal"),
    "internvl": Family(("multi_modal_projector",), "causal"),
    "idefics3": Family(("connector",), "causal"),
    "smolvlm": Family(("connector",), "causal"),
    "qwen2_vl": Family(("visual.merger",), "grid_positions"),
    "qwen2_5_vl": Family(("visual.merger",), "grid_positions"),
    "qwen3_vl": Family(("visual.merger", "visual.deepstack_merger_list"), "grid_positions"),
    "gemma3": Family(("multi_modal_projector",), "image_blocks"),
}
