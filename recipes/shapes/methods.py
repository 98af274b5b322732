"""The methods that are compared, one line each: what trains a model, and on which rows."""

from dataclasses import dataclass

from pipeline import command, config, sources
from steps import Step


@dataclass(frozen=True)
class Method:
    """
    A model of the comparison.

    Args:
        title (`str`): what it is.
        command (`str`, *optional*): command of `trl-mm` that trains it; none for those of the quickstart.
        recipe (`str`, *optional*): name of the recipe, in this folder.
        rows (`str`, *optional*): file or folder of the rows, below the folder of a seed.
        flags (`tuple[str]`, *optional*): further flags; `{folder}` is the folder of a seed.
        reads (`tuple[str]`, *optional*): what it reads besides, below the folder of a seed.
    """

    title: str
    command: str | None = None
    recipe: str | None = None
    rows: str | None = None
    flags: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()


def training_steps(folder, seed):
    """Steps that train all models with a command of their own; the base, and the rows, are there."""
    return [training_step(folder, seed, name, method) for name, method in METHODS.items() if method.command]


def training_step(folder, seed, name, method):
    """The step that trains one model."""
    world, base, rows = folder / "world", folder / "base", folder / method.rows
    return Step(
        f"seed {seed}: {method.title}",
        *command(
            method.command, *config(method.recipe), "--model_name_or_path", str(base), "--dataset_name", str(rows),
            "--image_folder", str(world), "--output_dir", str(folder / name), "--seed", str(seed),
            *(flag.format(folder=folder) for flag in method.flags),
        ),
        folder / name,
        [
            base, world, *([] if method.rows == CAPTIONS else [rows]), *(folder / path for path in method.reads),
            *sources(f"{method.recipe}.yaml", "exact.py"),
        ],
    )  # fmt: skip


CAPTIONS, CHANCE, PRIOR = "world/captions.jsonl", "corrupted.jsonl", "corrupted-prior.jsonl"
HALF = ("--bdhs_rejected_weight", "0.5")  # γ of eq. 5
LEARNED = ("--reward_funcs", "{folder}/reward-prior")
# Folder of the model: the method
METHODS = {
    "base": Method("base"),
    "control": Method("control: SFT on the chosen answers"),
    "corrupted": Method("DPO, corruption by chance", "dpo", "dpo", CHANCE),
    "corrupted-prior": Method("DPO, corruption by the prior", "dpo", "dpo", PRIOR),
    "aligned": Method("BDHS"),
    "bdhs-online": Method("BDHS, online", "dpo", "bdhs_online", CAPTIONS),
    "averaged": Method("BDHS, online, beside corruption by the prior (eq. 5)", "dpo", "bdhs_online", PRIOR, HALF),
    "aligned-unguided": Method("mask only, no guidance (one attempt, kept)"),
    "aligned-noise": Method("BDHS with noise, 500 steps"),
    "aligned-noise-clamped": Method("BDHS with noise, 500 steps, clamped"),
    "povid": Method("POVID's distortion beside corruption by the prior (eq. 5)", "dpo", "povid", PRIOR, HALF),
    "povid-alone": Method("POVID's distortion alone", "dpo", "povid", CAPTIONS),
    "online": Method("Online-DPO, exact judge", "online-dpo", "online_dpo", CAPTIONS),
    "online-learned": Method(
        "Online-DPO, reward model", "online-dpo", "online_dpo", CAPTIONS, LEARNED, ("reward-prior",)
    ),
    "rloo": Method("RLOO, exact reward", "rloo", "rloo", CAPTIONS),
    "rloo-learned": Method("RLOO, reward model", "rloo", "rloo", CAPTIONS, LEARNED, ("reward-prior",)),
    "ppo": Method("PPO, exact reward", "ppo", "ppo", CAPTIONS),
    "ppo-learned": Method("PPO, reward model", "ppo", "ppo", CAPTIONS, LEARNED, ("reward-prior",)),
    "mixed": Method("Mixed-DPO with corruption by the prior, p = 0.5", "online-dpo", "mixed_dpo", PRIOR),
}
