"""The steps of the quickstart: every one is a command that a user can type. Nothing is run here."""

import os
import sys
from pathlib import Path

from steps import Step


HERE = Path(__file__).resolve().parent
RECIPES = Path("recipes/shapes")
MODELS = ("base", "control", "aligned")


def script(name, *flags):
    """A script of this folder, and how a user would type it."""
    return [sys.executable, str(HERE / name), *flags], " ".join(["python", str(RECIPES / name), *flags])


def command(name, *flags):
    """A command of trl-mm, and how a user would type it."""
    return [sys.executable, "-m", "trl_mm.cli.main", name, *flags], " ".join(["trl-mm", name, *flags])


def config(name):
    return ["--config", os.path.relpath(HERE / f"{name}.yaml")]


def sources(*names):
    return [HERE / name for name in names]


def base_steps(folder, seed):
    """The world and the base model."""
    world, base = folder / "world", folder / "base"
    return [
        Step(
            f"seed {seed}: make the Shapes world",
            *script("world.py", "--output_dir", str(world), "--seed", str(seed)),
            world,
            sources("world.py"),
        ),
        Step(
            f"seed {seed}: train the base model (TRL's SFTTrainer)",
            *script(
                "sft.py", *config("base"), "--dataset_name", f"{world}/sft.jsonl", "--output_dir", str(base),
                "--seed", str(seed),
            ),
            base,
            [world, *sources("base.yaml", "sft.py", "model.py")],
        ),
    ]  # fmt: skip


def alignment_steps(folder, seed, name="", bdhs=(), dpo=(), sft=(), pairs=None):
    """Pairs, the aligned model and the control; `bdhs`, `dpo` and `sft` are flags that override the recipes."""
    world, base = folder / "world", folder / "base"
    pairs = folder / (pairs or f"pairs{name if bdhs else ''}")
    aligned, control = (folder / f"{part}{name}" for part in ("aligned", "control"))
    trained = ["--model_name_or_path", str(base), "--dataset_name", str(pairs), "--seed", str(seed)]
    return [
        Step(
            f"seed {seed}: make BDHS pairs{name}",
            *command(
                "bdhs", *config("bdhs"), "--model_name_or_path", str(base),
                "--dataset_name", f"{world}/captions.jsonl", "--output_dir", str(pairs), "--seed", str(seed), *bdhs,
            ),
            pairs,
            [base, world, *sources("bdhs.yaml")],
        ),
        Step(
            f"seed {seed}: align by DPO{name}",
            *command("dpo", *config("dpo"), *trained, "--output_dir", str(aligned), *dpo),
            aligned,
            [base, pairs, *sources("dpo.yaml")],
        ),
        Step(
            f"seed {seed}: train the control, SFT on the same chosen answers for as many steps{name}",
            *script("sft.py", *config("control"), *trained, "--output_dir", str(control), *sft),
            control,
            [base, pairs, *sources("control.yaml", "sft.py")],
        ),
    ]  # fmt: skip


def eval_step(folder, seed, model, split="test", flags=()):
    world, output = folder / "world", folder / f"eval_{split}" / model
    return Step(
        f"seed {seed}: evaluate {model} on the {split} images",
        *command(
            "eval", *config("eval"), "--model_name_or_path", str(folder / model),
            "--annotations", f"{world}/{split}.json", "--image_folder", str(world),
            "--vocabulary", f"{world}/objects.txt", "--partners", f"{world}/partners.json",
            "--output_dir", str(output), *flags,
        ),
        output,
        [folder / model, world, *sources("eval.yaml")],
    )  # fmt: skip


def quickstart_steps(folder, seed):
    models = [eval_step(folder, seed, model) for model in MODELS]
    return [*base_steps(folder, seed), *alignment_steps(folder, seed), *models]
