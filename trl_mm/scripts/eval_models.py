"""The models of `trl-mm eval`: one, or several by name, of which those that adapt one base share it in memory."""

import gc
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .models import ModelArguments, check_base, check_model_path, load_model
from .vllm_models import load_vllm


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
ADAPTER = "evaluated"  # what an adapter is called while it is on its base


@dataclass
class EvaluatedModel:
    """
    One model of a run.

    Args:
        name (`str`, *optional*): what the user calls it; `None` if it is the only one.
        args ([`~trl_mm.scripts.models.ModelArguments`]): how it is loaded.
        folder (`Path`): where its answers and scores go.
        processor (`ProcessorMixin`, *optional*): its processor; `None` behind an endpoint.
    """

    name: str | None
    args: ModelArguments
    folder: Path
    processor: Any = None

    @property
    def path(self):
        """Id or path of the model, or its name at the endpoint."""
        return self.args.model_name_or_path

    @property
    def title(self):
        """What messages call it."""
        return self.path if self.name is None else f"{self.name} ({self.path})"


def models_of(args):
    """
    Models that [`~trl_mm.scripts.eval.EvalArguments`] name.

    Returns:
        `list[EvaluatedModel]`: in the order of the user.

    Raises:
        ValueError: a name is no name of a folder.
    """
    if args.models is None:
        return [EvaluatedModel(None, args, Path(args.output_dir))]
    return [
        EvaluatedModel(name, replace(args, models=None, model_name_or_path=path), Path(args.output_dir) / name)
        for name, path in named_values("models", args.models).items()
    ]


def named_values(setting, items):
    """
    What a list of NAME=VALUE says.

    Args:
        setting (`str`): name of the setting, for messages.
        items (`list[str]`, *optional*): the list.

    Returns:
        `dict[str, str]`

    Raises:
        ValueError: an item has another form, a name is no name of a folder, or two differ in case at most.
    """
    found = {}
    for item in items or []:
        name, sign, value = str(item).partition("=")
        if not sign or not value or not NAME.fullmatch(name):
            raise ValueError(
                f"`{setting}` takes NAME=PATH, where NAME is made of letters, digits, '-', '_' and '.', got {item!r}."
            )
        if name.lower() in map(str.lower, found):
            raise ValueError(f"`{setting}` has {name!r} twice. Give each one a name of its own.")
        found[name] = value
    if items is not None and not found:
        raise ValueError(f"`{setting}` is empty. Pass NAME=PATH, or leave it out.")
    return found


def check_models(models):
    """Refuse models that are not there, naming which, before anything is loaded."""
    for model in models:
        try:
            check_model_path(model.path)
            check_base(model.path)
        except (ValueError, OSError) as error:
            named = str(error) if model.name is None else f"{model.name}: {error}"
            raise type(error)(named.replace("`model_name_or_path`", "`models`") if model.name else named) from error


def loaded_models(models, device):
    """
    Load models one after the other. Adapters in folders are put on one copy of their base, and taken off again; the
    base itself, if it is asked for, comes before them.

    Args:
        models (`list[EvaluatedModel]`): the models.
        device (`torch.device`): where they run.

    Yields:
        `tuple[EvaluatedModel, PreTrainedModel]`: each with what is measured. Who keeps a model while asking for the
        next one holds both in memory.
    """
    for base, group in by_base(models):
        if group[0].args.use_vllm:  # whole models alone
            for model in group:
                yield model, load_vllm(model.args, device, model.processor)
                _free_memory()
        elif len(group) == 1:
            yield group[0], load_model(group[0].args, device)
        else:
            yield from _on_one_base(base, group, device)
        _free_memory()


def _on_one_base(base, group, device):
    from ..generation.merged_adapters import merged_when_generating

    loaded = load_model(replace(group[0].args, model_name_or_path=base), device)
    for model in group:
        if base_of(model) is None:
            yield model, loaded
            continue
        loaded.load_adapter(model.path, adapter_name=ADAPTER)
        loaded = loaded.to(device).eval()
        with merged_when_generating(loaded, model.args.merge_adapter):
            yield model, loaded
        _take_off(loaded)


def _take_off(loaded):
    from peft.functional import delete_adapter

    # As `delete_adapter` of transformers does, which since 5.24 wants PEFT 0.22
    prefix = f"{loaded.peft_config[ADAPTER].peft_type.value.lower()}_"
    delete_adapter(loaded, ADAPTER, prefix)
    del loaded.peft_config
    loaded._hf_peft_config_loaded = False


def by_base(models):
    """
    Models that share a base.

    Args:
        models (`list[EvaluatedModel]`): the models.

    Returns:
        `list[tuple[str, list[EvaluatedModel]]]`: id or path of each base, in the order in which they first occur, and
        its models, the base itself in front.
    """
    groups = {}
    for model in models:
        base = base_of(model) or model.path
        key = str(Path(base).resolve()) if Path(base).exists() else base
        groups.setdefault(key, (base, []))[1].append(model)
    return [(base, sorted(group, key=lambda model: base_of(model) is not None)) for base, group in groups.values()]


def base_of(model):
    """Id or path (`str`) of the base of an adapter in a folder; `None` for whole models."""
    from ..tokens.processor import base_of_adapter

    return base_of_adapter(model.path)


def _free_memory():
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
