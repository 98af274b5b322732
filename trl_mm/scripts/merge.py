"""`trl-mm merge`: a LoRA adapter and its base become one plain model."""

import copy
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .added_tokens import with_added_tokens
from .models import check_model_path
from .output_lock import lock
from .preflight import check_writable


@dataclass(kw_only=True)
class MergeArguments:
    """
    Arguments of `trl-mm merge`.

    Args:
        model_name_or_path (`str`): id or path of the adapter, as `trl-mm dpo --use_peft` saves it.
        output_dir (`str`): folder of the model, which must not be there yet.
        base_model_name_or_path (`str`, *optional*): id or path of the base; defaults to what the adapter names.
        model_revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit of the adapter.
        dtype (`str`, *optional*, defaults to `"auto"`): data type to merge and save in; `"auto"` is the base's.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether code from the base's repository may run.
    """

    model_name_or_path: str
    output_dir: str
    base_model_name_or_path: str | None = None
    model_revision: str = "main"
    dtype: str = "auto"
    trust_remote_code: bool = False


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((MergeArguments,), prog="trl-mm merge")


def main(argv=None):
    (args,) = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    check_model_path(args.model_name_or_path)
    output = Path(args.output_dir)
    check_free(output)
    check_writable("output_dir", output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"`output_dir` ({output}) cannot be made: {error}. Name another folder.") from error
    with lock(output.with_name(f".{output.name}.lock"), f"`output_dir` ({output})"):
        check_free(output)  # another run may have ended just now
        merge(args, output)


def merge(args, output):
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification

    from ..reward import models as _registered  # noqa: F401  classes that AutoModelForSequenceClassification finds
    from ..tokens.processor import processor_of

    revision = {"revision": args.model_revision}
    try:
        adapter = PeftConfig.from_pretrained(args.model_name_or_path, **revision)
    except ValueError as error:
        raise ValueError(
            f"`model_name_or_path` ({args.model_name_or_path}) is no adapter: {error}. Pass the folder that "
            "`trl-mm dpo --use_peft` has written."
        ) from error
    base = args.base_model_name_or_path or adapter.base_model_name_or_path
    if not base:
        raise ValueError(
            f"The adapter ({args.model_name_or_path}) does not name its base. Say where it is with "
            "`--base_model_name_or_path`."
        )
    try:
        check_model_path(base)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The base of the adapter ({base}) is not there. Say where it is with `--base_model_name_or_path`."
        ) from error
    processor = processor_of(args.model_name_or_path, trust_remote_code=args.trust_remote_code, **revision)
    auto, labels = AutoModelForImageTextToText, {}
    if adapter.task_type == "SEQ_CLS":  # as `trl-mm reward` writes it, with the score beside the adapter
        auto, labels = AutoModelForSequenceClassification, {"num_labels": 1}
    model = auto.from_pretrained(
        base,
        revision=adapter.revision if base == adapter.base_model_name_or_path else None,
        dtype=args.dtype,
        trust_remote_code=args.trust_remote_code,
        **labels,
    )
    if getattr(model, "is_quantized", False):
        raise ValueError(f"The base ({base}) is quantized, which would round the adapter away. Pass one that is not.")
    with_added_tokens(model, processor, args.model_name_or_path, **revision)
    model = PeftModel.from_pretrained(model, args.model_name_or_path, **revision)
    separate_adapted_embeddings(model.get_base_model())
    merged = model.merge_and_unload(progressbar=True, safe_merge=True)

    partial = output.with_name(f"{output.name}.partial")  # a killed run leaves no model that looks whole
    shutil.rmtree(partial, ignore_errors=True)
    merged.save_pretrained(partial)
    processor.save_pretrained(partial)
    os.replace(partial, output)
    print(f"Model in {output}")


def check_free(output):
    """Refuse a folder that is there: what it holds would be mixed with the model."""
    if output.exists():
        raise ValueError(f"`output_dir` ({output}) exists. Use another folder, or delete this one.")


def separate_adapted_embeddings(model):
    """
    Give the LM head a weight of its own if it shares that of the embeddings and one of them has an adapter. While they
    share it, what is merged into one is merged into the other too.

    Args:
        model ([`~transformers.PreTrainedModel`]): base with its adapter. PEFT writes into its configuration that the
            weights have parted.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = [layer for layer in (head, embeddings) if isinstance(layer, BaseTunerLayer)]
    if adapted and head is not None and head.weight is embeddings.weight:
        layer = head.get_base_layer() if head in adapted else head
        layer.weight = copy.deepcopy(layer.weight)


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
