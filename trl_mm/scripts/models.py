"""Model and processor of a command that does not train."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(kw_only=True)
class ModelArguments:
    """
    Which model a command runs.

    Args:
        model_name_or_path (`str`): id or path of a vision-language model, or of a LoRA adapter for one.
        model_revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit.
        dtype (`str`, *optional*, defaults to `"auto"`): data type of the weights; `"auto"` is that of the checkpoint.
        attn_implementation (`str`, *optional*): such as `"sdpa"`, `"eager"` or `"flash_attention_2"`.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether code from the model's repository may run.
        system_prompt (`str`, *optional*): system message of conversations that have none of their own, such as the one
            that the model was trained with.
        accelerate_config (`str`, *optional*): name or path of an accelerate config; the command line launches with it.
        merge_adapter (`bool`, *optional*): whether an adapter, if it is a LoRA, becomes part of the weights in memory,
            as it does by default on GPUs: a token takes less time. In bfloat16 a close choice may turn.
        process_timeout (`float`, *optional*, defaults to `600.0`): seconds without a sign of life after which one of
            several processes counts as dead. One that is slow gives them; what can delay them is a disk that hangs.
    """

    model_name_or_path: str
    model_revision: str = "main"
    dtype: str = "auto"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    system_prompt: str | None = None
    accelerate_config: str | None = None
    merge_adapter: bool | None = None
    process_timeout: float = 600.0


def check_model_path(name, setting="model_name_or_path"):
    """Refuse a model that is not named or not there, before anything long begins; Hub ids are left to the Hub."""
    if name is None:
        raise ValueError(
            f"`{setting}` is missing. Pass the id or the path of a vision-language model, such as "
            "llava-hf/llava-v1.6-vicuna-7b-hf."
        )
    path = Path(name)
    if not path.exists() and (path.is_absolute() or name.startswith(".") or name.count("/") != 1):
        raise FileNotFoundError(
            f"`{setting}` ({name}) is no folder here, and no id of the form owner/name on the Hub."
        )
    if path.is_dir() and not any((path / file).exists() for file in ("config.json", "adapter_config.json")):
        raise FileNotFoundError(
            f"`{setting}` ({name}) holds neither config.json nor adapter_config.json: no model. Name "
            "the folder that does; a run that was killed has them in its checkpoint-N folders."
        )


def check_base(name, setting="model_name_or_path"):
    """Refuse an adapter whose base has moved, before anything is loaded."""
    from ..tokens.processor import base_of_adapter

    base = base_of_adapter(name)
    if base is None:
        return
    try:
        check_model_path(base)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"`{setting}` ({name}) is an adapter, and its base ({base}) is not there. Write where it is into "
            "`base_model_name_or_path` of adapter_config.json in that folder."
        ) from error


def check_whole_model(name):
    """Refuse to train an adapter, which TRL's trainers load no model from, before anything is loaded."""
    from ..tokens.processor import base_of_adapter

    if (base := base_of_adapter(name)) is not None:
        raise ValueError(
            f"`model_name_or_path` ({name}) is an adapter, and training begins from a whole model. Fold it into its "
            f"base first (`trl-mm merge --model_name_or_path {name} --output_dir …`), train its base ({base}) anew, "
            "or resume its own run with `--resume_from_checkpoint`."
        )


def load_processor(args, setting="model_name_or_path"):
    """
    Load the processor of the model that [`ModelArguments`] name: fast, so that what it lacks shows before the model
    is loaded.

    Args:
        args ([`ModelArguments`]): which model.
        setting (`str`, *optional*, defaults to `"model_name_or_path"`): what names it, for messages.

    Returns:
        `ProcessorMixin`: the processor, with the system prompt.

    Raises:
        ValueError: the model is no vision-language model, has no chat template, cannot count image tokens, or takes no
            system message.
    """
    from transformers import AutoConfig

    from ..tokens.chat_template import with_system_prompt
    from ..tokens.processor import vision_processor_of

    source = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(args.model_name_or_path, **source)
    except (OSError, ValueError):  # adapters; loading the model says what is wrong, if anything is
        config = None
    processor = vision_processor_of(args.model_name_or_path, f"`{setting}`", config=config, **source)
    return with_system_prompt(processor, args.system_prompt)


def load_model(args, device, processor=None):
    """
    Load the model that [`ModelArguments`] name.

    Args:
        args ([`ModelArguments`]): which model.
        device (`torch.device` or `str`): where it runs.
        processor ([`~transformers.ProcessorMixin`], *optional*): its processor, to compare with.

    Returns:
        `PreTrainedModel`: the model in eval mode, an adapter merged as `merge_adapter` says.

    Raises:
        ValueError: the processor writes another number of image tokens than the model has features for.
    """
    from transformers import AutoModelForImageTextToText

    from ..generation.merged_adapters import merge_for_good
    from ..generation.sight import check_image_features

    model = AutoModelForImageTextToText.from_pretrained(
        args.model_name_or_path,
        revision=args.model_revision,
        trust_remote_code=args.trust_remote_code,
        dtype=args.dtype,
        attn_implementation=args.attn_implementation,
    )
    model = model.to(device).eval()
    if processor is not None:
        check_image_features(model, processor)
    merge_for_good(model, args.merge_adapter)
    return model
