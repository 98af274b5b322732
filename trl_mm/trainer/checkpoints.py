"""
How training resumes from a checkpoint. A checkpoint is complete when it has its marker, a file that is written last,
when all processes are done, and that says which files there are: transformers writes a checkpoint in place, and would
take a half-written one for the last.
"""

import json
import logging
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from accelerate.utils import gather_object, is_peft_model
from safetensors import SafetensorError
from transformers import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..data.atomic_file import replacing


logger = logging.getLogger(__name__)

MARKER = "complete.json"
_STATE = "trainer_state.json"
# As `open`, safetensors and torch say it; the last one does not say why it could not write
_DISK_IS_FULL = re.compile(
    r"No space left|quota exceeded|os error (28|122)|inline_container|PytorchStreamWriter", re.I
)


def save_checkpoint(trainer, save, trial=None):
    """
    Save a checkpoint and mark it as complete. Only then older ones go, as `save_total_limit` says, broken ones first:
    at each moment there is a usable one. All processes must call this.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer.
        save (`Callable`): its method that saves, without arguments.
        trial (*optional*): trial of a search for settings.

    Raises:
        OSError: there is no space left. What was written of the checkpoint is deleted.
    """
    args, run = trainer.args, Path(trainer._get_output_dir(trial))
    folder = run / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
    if trainer.last_checkpoint == folder.resolve():
        return  # this run wrote it or came from it; to replace it could cost the last usable one
    if args.should_save and folder.exists():
        _delete(folder)  # of a run that was killed, or of another run
    trainer.accelerator.wait_for_everyone()
    limit, args.save_total_limit = (
        args.save_total_limit,
        None,
    )  # transformers would count broken checkpoints, too early
    try:
        with explained_if_full(folder, run):
            save()
            trainer.accelerator.wait_for_everyone()
            if args.should_save:
                number = max((_number(other) for other in complete_checkpoints(run)), default=0) + 1
                marker = json.dumps({"number": number, "files": _files(folder)}, indent=2)
                with replacing(folder / MARKER, args.process_index) as file:
                    file.write(marker.encode())
    finally:
        args.save_total_limit = limit
    trainer.last_checkpoint = folder.resolve()
    if args.should_save and limit is not None and limit > 0:
        _rotate(run, limit, trainer.state.best_model_checkpoint)


def checkpoint_to_resume(trainer, wanted):
    """
    Find the checkpoint to resume from. All processes must call this.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer.
        wanted (`bool` or `str`, *optional*): `resume_from_checkpoint`: `True` for the complete checkpoint in
            `output_dir` that was saved last, a folder, or `None`. As text, "true" and "false" will do.

    Returns:
        `str` or `None`: its folder; `None` to start from the beginning, also with `True` if there is none, so that the
            same command can be repeated after a kill.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the folder holds no complete checkpoint, or adapters of other settings.
    """
    run, main = Path(trainer.args.output_dir), trainer.accelerator.is_main_process
    trainer.last_checkpoint = None
    # Each node may have a disk of its own: what goes is what all processes have
    seen = gather_object([[folder.name for folder in complete_checkpoints(run)]])
    complete = [name for name in seen[0] if all(name in names for names in seen)]
    if not _is_wanted(wanted):
        if complete and main:
            logger.warning(
                "`output_dir` (%s) holds %s of an earlier run, and this one starts from the beginning. Set "
                "`resume_from_checkpoint=True` to resume from there, or use another folder.",
                run,
                complete[-1],
            )
        return None
    if _wants_last(wanted):
        broken = [folder.name for folder in _checkpoints(run) if folder.name not in complete]
        if broken and main:
            logger.warning("%s in %s: not complete, passed over.", ", ".join(broken), run)
        if not complete:
            if main:
                logger.warning("No complete checkpoint in %s yet: training starts from the beginning.", run)
            return None
        folder = run / complete[-1]
    else:
        folder = Path(wanted)
        _check(folder, f" It is {complete[-1]}." if complete else "")
    if is_peft_model(trainer.model):
        _check_adapter(folder, trainer.model.active_peft_config)
    saved_by = len(list(folder.glob("rng_state*.pth")))
    if main and saved_by == 0:
        logger.warning("%s holds the model only: optimizer, schedule and random numbers start anew.", folder)
    elif main and saved_by != trainer.args.world_size and not trainer.args.save_on_each_node:
        logger.warning(
            "%s was saved by %d processes, this run has %d: its batches, and so its losses, will differ.",
            folder,
            saved_by,
            trainer.args.world_size,
        )
    logger.info("Training resumes from %s.", folder)
    trainer.last_checkpoint = folder.resolve()
    return str(folder)


def is_resumed(args):
    """Whether training with these arguments ([`~transformers.TrainingArguments`]) will resume (`bool`), as one sees
    from one machine before anything is loaded."""
    wanted = args.resume_from_checkpoint
    return bool(complete_checkpoints(Path(args.output_dir))) if _wants_last(wanted) else _is_wanted(wanted)


def complete_checkpoints(run):
    """
    Find the checkpoints that training can resume from.

    Args:
        run (`Path`): output directory.

    Returns:
        `list[Path]`: their folders, in the order in which they were saved.
    """
    return sorted((folder for folder in _checkpoints(run) if _is_complete(folder)), key=_number)


@contextmanager
def explained_if_full(folder, run):
    """
    Turn what writing raises on a full disk into an `OSError` that says what to do, and make room again.

    Args:
        folder (`Path`): what is written. If it is a checkpoint it is deleted then.
        run (`Path`): output directory.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _DISK_IS_FULL.search(str(error)):
            raise
        if folder != run:
            shutil.rmtree(folder, ignore_errors=True)
        usable = complete_checkpoints(run)
        raise OSError(
            f"{folder} could not be written, most likely as there is no space left on its disk "
            f"({shutil.disk_usage(run).free / 1e9:.1f} GB free now): {' '.join(str(error).split())}. "
            + (f"{usable[-1].name} is complete. " if usable else "There is no complete checkpoint. ")
            + "Make room (`save_total_limit` keeps fewer checkpoints, `save_only_model` smaller ones that cannot be "
            "resumed), then repeat the command with `--resume_from_checkpoint true`."
        ) from error


def loads_saved_weights(trainer, folder, model):
    """
    Load the weights of a checkpoint into a model that nothing shards or adapts.

    transformers 5.23 saves vision-language models under names that its Trainer does not find in the model again: it
    would warn and go on with the initial weights.

    Args:
        trainer ([`~transformers.Trainer`]): the trainer.
        folder (`str`): folder of the checkpoint.
        model ([`~transformers.PreTrainedModel`]): the model.

    Returns:
        `bool`: whether it did; otherwise the weights are left to transformers, which finds them.
    """
    if is_peft_model(model) or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return False
    # In the widest type of the model: frozen weights may be in half precision beside trained ones in float32
    widest = max((weight.dtype for weight in model.parameters()), key=lambda dtype: dtype.itemsize)
    saved = type(model).from_pretrained(folder, dtype=widest)
    model.load_state_dict(saved.state_dict())
    return True


def _is_wanted(wanted):
    return wanted not in (None, False) and str(wanted).lower() != "false"


def _wants_last(wanted):
    return wanted is True or str(wanted).lower() == "true"


def _check(folder, hint):
    """Refuse a folder that is no complete checkpoint; one that another program has written has no marker."""
    cure = f"Pass another folder, or `True` for the last complete checkpoint in `output_dir`.{hint}"
    if not folder.is_dir():
        raise FileNotFoundError(f"`resume_from_checkpoint` ({folder}) is no folder. {cure}")
    if _is_complete(folder):
        return
    try:
        TrainerState.load_from_json(folder / _STATE)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"`resume_from_checkpoint` ({folder}) has no readable {_STATE}. {cure}") from error
    if (folder / MARKER).exists():
        raise ValueError(f"`resume_from_checkpoint` ({folder}) lacks files that {MARKER} names. {cure}")
    logger.warning("%s has no %s: another program wrote it, or a run was killed meanwhile.", folder, MARKER)


def _check_adapter(folder, config):
    """Refuse adapters of other settings: another rank does not fit, and another scale fits without a word."""
    try:
        saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for name in ("r", "lora_alpha", "use_rslora", "use_dora"):
        if name in saved and saved[name] != getattr(config, name, saved[name]):
            raise ValueError(
                f"`resume_from_checkpoint` ({folder}) holds adapters with {name}={saved[name]}, and this run has "
                f"{name}={getattr(config, name)}. Train with the same settings, or begin in another folder."
            )


def _checkpoints(run):
    named = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-\d+")
    folders = [folder for folder in run.glob("*") if named.fullmatch(folder.name) and folder.is_dir()]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _files(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent / MARKER != path
    }


def _marker(folder):
    try:
        return json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _number(folder):
    return _marker(folder)["number"]


def _is_complete(folder):
    marker = _marker(folder)
    return marker is not None and marker["files"].items() <= _files(folder).items()


def _rotate(run, limit, best):
    complete = complete_checkpoints(run)
    kept = {complete[-1], *([Path(best)] if best else [])}
    broken = [folder for folder in _checkpoints(run) if folder not in complete]
    excess = len(broken) + len(complete) - max(limit, len(kept))
    for folder in [folder for folder in (*broken, *complete) if folder not in kept][: max(excess, 0)]:
        _delete(folder)


def _delete(folder):
    (folder / MARKER).unlink(missing_ok=True)  # first, so that what a kill leaves of it is known to be broken
    shutil.rmtree(folder, ignore_errors=True)
