"""
Runs the script of a command: in this process, or with an accelerate config through `accelerate launch`.

The recipe and the flags are checked here first, so that a mistyped key is one error and not one per process.
"""

import argparse
import logging
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from ..scripts.launched import LAUNCHER
from ..scripts.preflight import need_package
from ..scripts.recipes import find_recipe, read_recipe, recipe_folders, unknown
from ..scripts.yaml_files import read_yaml
from .process_count import fit_launch


# Of `accelerate launch`: what differs between machines, or from one start to the next
LAUNCH_FLAGS = {
    "num_processes": int,
    "num_machines": int,
    "machine_rank": int,
    "main_process_ip": str,
    "main_process_port": int,
}


def run(command: str, module: str, argv: list[str]) -> None:
    """
    Run the script of one command.

    Args:
        command (`str`):
            Name of the command, for usage and error messages.
        module (`str`):
            Module of the script, or `module:object`, with `make_parser()` and `main(argv)`.
        argv (`list[str]`):
            Flags of the command, for the script; those of `LAUNCH_FLAGS` are for the launch alone.

    Raises:
        FileNotFoundError: the recipe does not exist.
        ValueError: the recipe has a key that the script does not know, or the accelerate config is unknown.
    """
    script = find_script(module)
    parser = script.make_parser()
    parser.prog = f"trl-mm {command}"
    parser.usage = parser.usage or f"trl-mm {command} --config recipe.yaml [flags]"
    if not hasattr(parser, "dataclass_types"):  # `recipes` and `env`, which read no recipe and are never launched
        script.main(argv)
        return
    options, arguments = _launch_parser().parse_known_args(argv)
    flags = {name: value for name in LAUNCH_FLAGS if (value := getattr(options, name)) is not None}
    recipe = {}
    if options.config is not None:
        recipe = read_recipe(find_recipe(options.config), parser)
        parser.set_defaults_with_config(**recipe)
    settings = vars(parser.parse_args(arguments))  # exits on `--help` and on an unknown flag
    if options.config is not None:
        arguments = ["--config", options.config, *arguments]

    accelerate_config = settings.get("accelerate_config")
    if accelerate_config == "null":  # takes back a recipe's, as in YAML
        accelerate_config = None
    if accelerate_config is not None:
        flags |= _mixed_precision(settings)
        config = read_yaml(find_accelerate_config(accelerate_config))
        flags, arguments = fit_launch(config, flags, settings, arguments)
    if settings.get("dry_run"):
        # One process that only reads what would be launched; `bf16` is refused without a GPU that it will not use
        script.main([*arguments, "--use_cpu", "true"], launch=_would_launch(accelerate_config, flags))
    elif accelerate_config is not None:
        if config.get("distributed_type") == "DEEPSPEED":
            need_package("deepspeed", f"`--accelerate_config {accelerate_config}`")
        launch(module, arguments, find_accelerate_config(accelerate_config), flags, recipe.get("env"))
    elif flags:
        name, value = next(iter(flags.items()))
        raise ValueError(f"`--{name} {value}` needs `--accelerate_config`, for example `--accelerate_config ddp`.")
    else:
        script.main(arguments)


def find_script(name: str) -> Any:
    """A module, or the object of one that is named as `module:object`."""
    module, _, item = name.partition(":")
    return getattr(import_module(module), item) if item else import_module(module)


def launch(
    module: str,
    argv: list[str],
    config: Path,
    flags: dict[str, Any] | None = None,
    env: dict[str, Any] | None = None,
) -> None:
    """
    Run `accelerate launch --config_file config -m module argv`.

    Args:
        module (`str`):
            Module to run in each process.
        argv (`list[str]`):
            Its arguments.
        config (`Path`):
            Accelerate's YAML.
        flags (`dict[str, Any]`, *optional*):
            Settings in place of those in `config`: `LAUNCH_FLAGS` and `mixed_precision`.
        env (`dict[str, Any]`, *optional*):
            Environment variables of the recipe, set before the processes start.
    """
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    read_yaml(config)  # refuses what accelerate would hang on
    os.environ.update({key: str(value) for key, value in (env or {}).items()})
    os.environ[LAUNCHER] = str(os.getpid())
    changed = [word for name, value in (flags or {}).items() for word in (f"--{name}", str(value))]
    # Quiet: the process that fails has shown its error, the launcher's own traceback and log would only hide it
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    words = ["--quiet", "--config_file", str(config), *changed, "--module", module, *argv]
    try:
        launch_command(launch_command_parser().parse_args(words))
    except SignalException as stopped:  # the processes have been ended by now
        if stopped.sigval == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        raise
    except ChildFailedError as failed:  # each process has shown its error
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            print(f"error: process {rank} was ended by {failure.signal_name()}.", file=sys.stderr)
        sys.exit(max(failure.exitcode, 1))
    finally:
        del os.environ[LAUNCHER]


def find_accelerate_config(name: str) -> Path:
    """
    Find an accelerate config by path or by name.

    Args:
        name (`str`):
            Path of a YAML file, or the stem of one in `recipes/accelerate` of the working directory, of the checkout
            or of the installed package.

    Returns:
        `Path`: the file.

    Raises:
        ValueError: there is neither such a file nor such a name.
    """
    if Path(name).is_file():
        return Path(name)
    found = {}
    for folder in recipe_folders():
        found.update({path.stem: path for path in (folder / "accelerate").glob("*.yaml")})
    if name not in found:
        raise ValueError(f"`--accelerate_config {name}`: no such file, and {unknown('name', name, found)}")
    return found[name]


def _would_launch(accelerate_config: str | None, flags: dict[str, Any]) -> dict[str, Any]:
    if accelerate_config is None:
        return {}
    settings = read_yaml(find_accelerate_config(accelerate_config))
    return {**settings, **flags}


def _mixed_precision(settings: dict[str, Any]) -> dict[str, str]:
    """What a recipe or a flag says of half precision, which would else be that of the accelerate config."""
    if settings.get("fp16"):
        return {"mixed_precision": "fp16"}
    return {"mixed_precision": "no"} if settings.get("bf16") is False else {}


def _launch_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, prog="trl-mm")
    parser.add_argument("--config")
    for name, kind in LAUNCH_FLAGS.items():
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", type=kind)
    return parser
