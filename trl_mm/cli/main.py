"""
`trl-mm COMMAND [flags]`.

Nothing heavy is imported before a command is known, so `trl-mm --help` answers at once.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from ..scripts.errors import run_with_one_line_errors
from ..scripts.recipes import recipe_folders, unknown
from .launch import run


def main(argv: list[str] | None = None) -> int:
    """
    Run one command.

    Args:
        argv (`list[str]`, *optional*):
            Command and its flags. Defaults to the arguments of the process.

    Returns:
        `int`: exit status; 0 on success, 2 when the command, a flag, the recipe or the data are at fault.
    """
    command, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    return run_with_one_line_errors(_run, command, arguments)


def _run(command: str, arguments: list[str]) -> None:
    if command.startswith("-"):
        _parser().parse_args([command])  # exits: `--help` and `--version` on their own, anything else as an error
    if arguments and f"{command} {arguments[0]}" in COMMANDS:
        command, *arguments = f"{command} {arguments[0]}", *arguments[1:]
    if command not in COMMANDS:
        raise ValueError(unknown("command", command, COMMANDS))
    module, _ = COMMANDS[command]
    if command == "score" and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)  # one command for each benchmark
        command, module = f"score {name}", f"{module}:{name}"
    run(command, module, arguments)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS)) + 2
    listing = "\n".join(f"  {name:{width}}{text}" for name, (_, text) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="trl-mm",
        usage="trl-mm COMMAND --config recipe.yaml [--accelerate_config NAME_OR_PATH] [--num_processes N] [flags]",
        description=f"commands:\n{listing}",
        epilog=(
            "Flags override the recipe; `trl-mm COMMAND --help` lists them, `--help_all` TRL's too. A recipe is a\n"
            "path, or the name of one that comes with trl-mm, such as llava_v1.6_vicuna_7b/dpo_lora;\n"
            f"`trl-mm recipes` lists them; they are in {_recipes()}\n"
            "--accelerate_config runs the command through `accelerate launch`, with a file or a name from\n"
            "recipes/accelerate; it may also stand in the recipe. For several machines: --machine_rank,\n"
            "--main_process_ip, --main_process_port, --num_machines.\n"
            "An error in what you wrote is one line; with TRL_MM_TRACEBACK=1 it comes with its traceback.\n"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"trl-mm {version('trl-mm')}")
    return parser


def _recipes() -> Path:
    return next((folder for folder in recipe_folders() if folder.is_dir()), Path("recipes"))


# Name: (module, or object in it, with `make_parser()` and `main(argv)`; help).
COMMANDS = {
    "dpo": ("trl_mm.scripts.dpo", "train on preference pairs from disk, or made during training with BDHS"),
    "online-dpo": ("trl_mm.scripts.online_dpo", "train on answers sampled on the way and ranked by a judge"),
    "rloo": ("trl_mm.scripts.rloo", "train on sampled answers and their rewards, by a model or by rules (RLOO)"),
    "ppo": ("trl_mm.scripts.ppo", "train on sampled answers and their rewards with a value model (PPO)"),
    "reward": ("trl_mm.scripts.reward", "train a reward model that sees the images, on preference pairs"),
    "bdhs": ("trl_mm.scripts.bdhs", "make preference pairs from SFT data with Bias-Driven Hallucination Sampling"),
    "convert": ("trl_mm.scripts.convert", "bring a published preference dataset into the row format, as parquet"),
    "corrupt": (
        "trl_mm.scripts.corrupt",
        "make preference pairs by a text model that rewrites chosen answers wrongly",
    ),
    "eval": ("trl_mm.scripts.eval", "ask models and score their answers: POPE, CHAIR, MMHal-Bench and nine others"),
    "score": ("trl_mm.scripts.score", "score answers in a file as a benchmark does; --list shows all of them"),
    "merge": ("trl_mm.scripts.merge", "fold a LoRA adapter into its base: a plain model"),
    "judge": ("trl_mm.scripts.judge", "measure how often a judge agrees with a preference dataset"),
    "report": ("trl_mm.scripts.report", "look through preference pairs, and what they are made of, on one HTML page"),
    "recipes": (
        "trl_mm.scripts.recipe_list",
        "list the recipes that come with trl-mm, show or copy one",
    ),
    "env": ("trl_mm.scripts.env", "print versions, devices and installed extras, for bug reports"),
    "bench bdhs": ("trl_mm.scripts.bench:bdhs", "compare BDHS with the direct way to write it on this machine"),
    "bench convert": ("trl_mm.scripts.bench:convert", "time conversions beside datasets.map on this machine"),
    "bench dpo": ("trl_mm.scripts.bench:dpo", "compare a DPO step with TRL's on this machine"),
    "bench online-dpo": ("trl_mm.scripts.bench:online_dpo", "compare an online DPO step with TRL's on this machine"),
    "bench reward": ("trl_mm.scripts.bench:reward", "compare a step of a reward model with TRL's on this machine"),
    "bench rloo": ("trl_mm.scripts.bench:rloo", "compare an RLOO step with TRL's on this machine"),
}


if __name__ == "__main__":
    raise SystemExit(main())
