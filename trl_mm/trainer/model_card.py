"""
The card of a trained model: how to run it, what it was trained on, how, and with what result. Settings and names are
hostile input, so the template passes every value through `escape_markdown`.

Of local paths the card shows the last part only, and nothing of the Hub, of trackers and of what the run is told of
logging: cards are made to be published, paths hold names of people and machines.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from enum import Enum
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accelerate.utils import is_peft_model
from huggingface_hub import ModelCard, ModelCardData
from trl.trainer.utils import get_comet_experiment_url, get_config_model_id, get_trackio_space_url

from ..data.dataset_card import code_block, is_hub_id, render_markdown
from ..data.manifest import installed_version
from ..data.protocols import judge_name
from ..report.plots import write_line_plot


_PACKAGES = ("trl-mm", "trl", "transformers", "torch", "accelerate", "peft", "deepspeed", "datasets")
_LEFT_OUT = re.compile(
    r"(hub|push_to_hub|logging|log|save|report|trackio|bdhs_push|bdhs_save)(_|$).*"
    r"|output_dir|ref_log_probs_dir|run_name|project|resume_from_checkpoint|model_init_kwargs|dry_run|disable_tqdm"
    r"|use_cpu|vllm_server_host|dataloader_(pin_memory|num_workers)|ddp_.*|do_eval|activation_checkpointing|check_images|.*(_|\b)(token|key|secret|password|url)"
)
_BEST = {"loss": min, "rewards/margins": max, "rewards/accuracies": max, "objective/scores": max}
_PLOTS = {"loss": "loss", "rewards/margins": "reward margin"}
_SNIPPET = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained({name}, dtype="auto", device_map="auto")
processor = AutoProcessor.from_pretrained({name})
content = [{{"type": "image", "path": "image.jpg"}}, {{"type": "text", "text": "Describe the image."}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": content}}],
    add_generation_prompt=True,
    tokenize=True,
    return_dict=True,
    return_tensors="pt",
).to(model.device, model.dtype)
output = model.generate(**inputs, max_new_tokens=128)
print(processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""


def write_model_card(
    trainer: Any,
    model_name: str | None = None,
    dataset_name: str | None = None,
    tags: str | Sequence[str] | None = None,
) -> None:
    """
    Write `README.md` into the output directory, with plots beside it. Only the main process writes.

    Args:
        trainer ([`MMDPOTrainer`] or [`MMOnlineDPOTrainer`]): the trainer. Its `recipe`, if it has one, holds the
            settings of a command besides the training arguments.
        model_name (`str`, *optional*): name of the model; defaults to that of the output directory.
        dataset_name (`str`, *optional*): id or path of the rows; defaults to that of the recipe.
        tags (`str` or `list[str]`, *optional*): further tags.
    """
    if not trainer.is_world_process_zero():
        return
    args, folder = trainer.args, Path(trainer.args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = trainer.recipe or {}
    base, dataset = get_config_model_id(trainer.model.config), dataset_name or recipe.get("dataset_name")
    mixed = [] if dataset else [part["path"] for part in recipe.get("datasets", [])]
    adapter = trainer.model.active_peft_config if is_peft_model(trainer.model) else None
    runs, more_tags = tracker_urls(), [tags] if isinstance(tags, str) else tags or []
    if adapter:
        more_tags = [*more_tags, "lora"]
    if "trackio" in runs:
        more_tags = [*more_tags, f"trackio:{runs['trackio']}"]
    data = ModelCardData(
        base_model=base if is_hub_id(base) else None,
        base_model_relation="adapter" if adapter else "finetune",
        datasets=dataset if is_hub_id(dataset) else [path for path in mixed if is_hub_id(path)] or None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag=None if hasattr(trainer, "card_snippet") else "image-text-to-text",
        tags=sorted({"generated_from_trainer", *trainer._tag_names, *more_tags}),
    )
    repository = getattr(trainer, "hub_model_id", None) or args.hub_model_id  # the first has its owner, if it is made
    generator, judge = getattr(trainer, "pair_generator", None), getattr(trainer, "judge", None)
    rewards, stored = getattr(trainer, "reward_func_names", []), getattr(trainer, "offline_probability", None)
    judge = None if stored == 1 else judge_name(judge) if judge else ", ".join(rewards)
    made_by_bdhs = stored != 0 and "bdhs_attempts" in getattr(trainer.train_dataset, "column_names", ())
    text = render_markdown(
        Path(__file__).with_name("model_card.md.j2"),
        name=model_name or folder.name,
        base=shown(base),
        base_is_public=is_hub_id(base),
        adapter=adapter,
        snippet=code_block(
            getattr(trainer, "card_snippet", _SNIPPET).format(name=json.dumps(repository or folder.resolve().name)),
            "python",
        ),
        scores_answers=hasattr(trainer, "card_snippet"),
        dataset=shown(dataset) if dataset else ", ".join(map(shown, mixed)) or None,
        dataset_is_public=is_hub_id(dataset),
        num_rows=num_rows(trainer.train_dataset),
        num_eval_rows=num_rows(trainer.eval_dataset),
        generator=type(generator).__name__ if generator else None,
        made_by_bdhs=made_by_bdhs,
        judge=judge,
        steps=trainer.state.global_step,
        epochs=f"{trainer.state.epoch or 0:.2f}",
        batch_size=args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
        num_processes=args.world_size,
        device=args.device.type,
        recipe=code_block(yaml.safe_dump({**recipe, **changed_settings(args)}, sort_keys=False).strip(), "yaml"),
        commit=commit(),
        versions={name: found for name in _PACKAGES if (found := installed_version(name))},
        runs=runs,
        plots=write_plots(trainer.state.log_history, folder),
        metrics=metrics_table(trainer.state.log_history),
        tables=trainer.evaluation_tables() if hasattr(trainer, "evaluation_tables") else [],
        is_best=args.load_best_model_at_end and trainer.state.best_global_step,
        paper=trainer._paper,
        citation=code_block(trainer._paper["citation"], "bibtex"),
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(folder / "README.md")


def changed_settings(group: Any) -> dict[str, Any]:
    """
    Settings that are not the defaults, as a card shows them.

    Args:
        group (dataclass): arguments of a command or of a trainer.

    Returns:
        `dict`: name to text, number, list or mapping; without what is left out of cards.
    """
    changed = {}
    for field in fields(group):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        value = plain(getattr(group, field.name, None))
        if value not in (None, [], {}) and value != plain(default) and not _LEFT_OUT.fullmatch(field.name):
            changed[field.name] = value
    return changed


def plain(value: Any) -> Any:
    """A setting as text, number, list or mapping; `None` for anything else, and for what is left out of cards."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):  # as a search for settings draws them; some are floats of Python's too
        value = value.item()
    if isinstance(value, str):
        try:  # a mapping from the command line
            return plain(json.loads(value)) if value.lstrip().startswith("{") else shown(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        known = {str(name): plain(part) for name, part in value.items() if not _LEFT_OUT.fullmatch(str(name))}
        return {name: part for name, part in known.items() if part is not None}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value if isinstance(value, (bool, int, float)) else None


def shown(name: str) -> str:
    """Of a path the last part; ids of the Hub and other texts, patterns of module names among them, as they are."""
    is_path = re.match(r"(\.{0,2}|~\w*|[A-Za-z]:)[\\/]|~", name) or os.path.exists(name)
    return Path(name.replace("\\", "/")).name if is_path else name


def metrics_table(log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Last and best value of the metrics that have one (`list[dict]`): `name`, `last`, `best` and its `step`."""
    table = []
    for name in [prefix + name for prefix in ("", "eval_") for name in _BEST]:
        points = logged(log_history, name)
        if points:
            better = _BEST[name.removeprefix("eval_")]
            finite = [point for point in points if math.isfinite(point[1])]
            step, best = better(finite, key=lambda point: point[1]) if finite else ("", points[-1][1])
            table.append({"name": name, "last": f"{points[-1][1]:.4g}", "best": f"{best:.4g}", "step": step})
    return table


def logged(log_history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    """Points `(step, value)` of a metric; what callbacks log as another thing than a number is left out."""
    return [(entry["step"], entry[name]) for entry in log_history if isinstance(entry.get(name), Real)]


def write_plots(log_history: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Draw loss and reward margin into SVG files; their names by label (`dict[str, str]`), none without matplotlib."""
    written = {}
    for metric, label in _PLOTS.items():
        lines: dict[str, Sequence[tuple[float, float]]] = {}
        for part, name in (("training", metric), ("evaluation", f"eval_{metric}")):
            if points := logged(log_history, name):
                lines[part] = points
        if lines:
            file = f"{label.replace(' ', '_')}.svg"
            try:
                write_line_plot(folder / file, lines, label)
            except ImportError:  # an extra, and no reason to stop training
                return {}
            written[label] = file
    return written


@cache
def commit() -> str | None:
    """Commit of the working tree that training was started in (`str`), `None` if it is none. Asked for once."""
    try:
        answers = [
            subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0] + (" with changes" if answers[1] else "")


def tracker_urls() -> dict[str, str]:
    """Addresses of the run by tracker."""
    run = getattr(sys.modules.get("wandb"), "run", None)  # no run where nothing has imported it
    urls = {
        "wandb": run and run.url,
        "trackio": get_trackio_space_url(),
        "comet": get_comet_experiment_url(),
    }
    return {name: url for name, url in urls.items() if url}


def num_rows(dataset: Any) -> str | None:
    """Rows of a dataset, or of each of a mapping of them, as text; `None` without."""
    if dataset is None:
        return None
    if isinstance(dataset, dict):
        return ", ".join(f"{len(part):,} ({name})" for name, part in dataset.items())
    return f"{len(dataset):,}"
