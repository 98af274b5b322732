"""Models that vLLM runs, in place of those that transformers runs, for commands that write answers.

This has not been run with a real vLLM: tests put an engine in its place that notes what it is handed.
"""

from dataclasses import dataclass

from .models import load_processor
from .preflight import need_package
from .training import as_mapping


@dataclass(kw_only=True)
class VLLMArguments:
    """
    Whether vLLM writes the answers.

    Args:
        use_vllm (`bool`, *optional*, defaults to `False`): whether vLLM, which is installed apart, runs the model. Has
            not been run with a real vLLM.
        vllm_options (`dict`, *optional*): with `use_vllm`, further arguments of `vllm.LLM`, such as
            `{"gpu_memory_utilization": 0.8, "tensor_parallel_size": 2}`.
    """

    use_vllm: bool = False
    vllm_options: dict | str | None = None

    def __post_init__(self):
        if self.vllm_options is not None:
            self.vllm_options = as_mapping("vllm_options", self.vllm_options, '{"gpu_memory_utilization": 0.8}')
            if not self.use_vllm:
                raise ValueError("`vllm_options` are given and `use_vllm` is not. Set `use_vllm`, or leave them out.")


def check_vllm(args, names, bdhs=None):
    """
    Find out whether vLLM can do what is asked, before anything is loaded.

    Args:
        args ([`VLLMArguments`]): whether it shall do anything.
        names (`list[str]`): ids or paths of the models.
        bdhs ([`BDHSConfig`], *optional*): settings of BDHS.

    Raises:
        ImportError: vLLM is not installed.
        ValueError: a model is an adapter, or BDHS has settings that need transformers.
    """
    from ..tokens.processor import base_of_adapter

    if not args.use_vllm:
        return
    need_package("vllm", "`use_vllm`")
    for name in names:
        if (base := base_of_adapter(name)) is not None:
            raise ValueError(
                f"`use_vllm` runs whole models, and {name} is an adapter for {base}. Fold it in first (`trl-mm merge "
                f"--model_name_or_path {name} --output_dir …`), or leave `use_vllm` out."
            )
    if bdhs is not None and bdhs.mode == "povid":
        raise ValueError(
            "`mode='povid'` predicts each token of a given answer, which vLLM does not do. Leave `use_vllm` out."
        )
    if bdhs is not None and bdhs.mode == "attention" and bdhs.positions != "collapsed":
        raise ValueError(
            f"`positions='{bdhs.positions}'` does not work with `use_vllm`: vLLM counts the positions of a prompt "
            "itself. Set `positions='collapsed'`, or leave `use_vllm` out."
        )


def check_one_process(args, state):
    """Refuse several processes, each of which would start an engine on the same GPUs."""
    if args.use_vllm and state.num_processes > 1:
        raise ValueError(
            f"`use_vllm` runs in one process, which uses several GPUs by itself, and {state.num_processes} were "
            f"started. Leave out `accelerate_config`, and set `vllm_options: {{tensor_parallel_size: "
            f"{state.num_processes}}}`."
        )


def load_vllm(args, device, processor=None, hides=False):
    """
    Start an engine for the model that [`ModelArguments`] name.

    Args:
        args ([`ModelArguments`] and [`VLLMArguments`]): which model, and how.
        device (`torch.device` or `str`): where image features and embeddings are computed, if they are.
        processor ([`~transformers.ProcessorMixin`], *optional*): its processor; loaded if it is not given.
        hides (`bool`, *optional*, defaults to `False`): whether image tokens will be hidden.

    Returns:
        [`~trl_mm.generation.vllm.VLLMModel`]

    Raises:
        ValueError: image tokens of this model cannot be hidden.
    """
    from transformers import AutoConfig, GenerationConfig
    from vllm import LLM, SamplingParams

    from ..generation.vllm import VLLMModel
    from ..tokens.families import family_of

    source = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
    config = AutoConfig.from_pretrained(args.model_name_or_path, **source)
    if hides and not family_of(config).hides_image_tokens:
        raise ValueError(
            f"Image tokens of a `{config.model_type}` model cannot be hidden one by one. Set `mode='noise'`, which "
            "works for any model."
        )
    processor = processor or load_processor(args)
    try:
        eos = GenerationConfig.from_pretrained(args.model_name_or_path, **source).eos_token_id
    except OSError:  # a model without such a file
        eos = None
    eos = processor.tokenizer.eos_token_id if eos is None else eos
    # Before the engine, which takes what is left of the memory
    encoder = load_encoder(args, device) if hides else None
    # Without room for images the engine runs the language model alone, which takes embeddings of prompts
    kind = {"enable_prompt_embeds": True, "limit_mm_per_prompt": {"image": 0}} if hides else {}
    engine = LLM(
        **{
            "model": args.model_name_or_path,
            "revision": args.model_revision,
            "trust_remote_code": args.trust_remote_code,
            "dtype": args.dtype,
            **kind,
            **(args.vllm_options or {}),
        }
    )
    return VLLMModel(engine, SamplingParams, config, eos if isinstance(eos, list) else [eos], encoder)


def load_encoder(args, device):
    """The embeddings and the vision part of a model (`PreTrainedModel`), its language model without layers."""
    import torch
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(
        args.model_name_or_path,
        revision=args.model_revision,
        trust_remote_code=args.trust_remote_code,
        dtype=args.dtype,
    )
    model.model.language_model.layers = torch.nn.ModuleList()
    model.lm_head = torch.nn.Identity()
    return model.to(device).eval()
