"""Reward models of the Shapes world: one for each kind of pairs, measured on held-out pairs of all kinds (Table 7)."""

import json

from pair_errors import named_types
from pipeline import command, config, script, sources
from steps import Step

from trl_mm.data.loading import load_preferences


# Kind of pairs: what they are, and those of the training images, below the folder of a seed
KINDS = {
    "chance": ("corruption by chance", "corrupted.jsonl"),
    "prior": ("corruption by the prior", "corrupted-prior.jsonl"),
    "bdhs": ("BDHS", "pairs"),
}
EXACT = "exact reward"
EXPLANATION = (
    "Share of held-out pairs, of images that nothing was trained on, whose chosen answer has the higher reward; in "
    "parentheses that with the images of other rows, which is what a model that reads the text alone would reach. The "
    "exact reward knows what is in the images; it is not always right, since the annotator of the chosen captions is "
    "not, either."
)


def held_out(folder, kind):
    """File or folder of the held-out pairs of a kind."""
    return folder / f"held_out-{kind}{'' if kind == 'bdhs' else '.jsonl'}"


def reward_steps(folder, seed):
    """Held-out pairs of all kinds, and a reward model of each; the pairs of the training images are there."""
    world, base, captions = folder / "world", folder / "base", folder / "held_out.jsonl"
    steps = [
        Step(
            f"seed {seed}: describe held-out images",
            *script("held_out.py", "--world", str(world), "--output", str(captions), "--seed", str(seed)),
            captions,
            [world, *sources("held_out.py", "world.py")],
        )
    ]
    for by in ("chance", "prior"):
        flags = ("--captions", str(captions), "--output", str(held_out(folder, by)), "--seed", str(seed), "--by", by)
        steps.append(
            Step(
                f"seed {seed}: corrupt held-out captions by {by}",
                *script("corrupt.py", *flags),
                held_out(folder, by),
                [captions, *sources("corrupt.py")],
            )
        )
    steps.append(
        Step(
            f"seed {seed}: make held-out BDHS pairs",
            *command(
                "bdhs", *config("bdhs"), "--model_name_or_path", str(base), "--dataset_name", str(captions),
                "--output_dir", str(held_out(folder, "bdhs")), "--seed", str(seed),
            ),
            held_out(folder, "bdhs"),
            [base, captions, world, *sources("bdhs.yaml")],
        )
    )  # fmt: skip
    measured = [held_out(folder, kind) for kind in KINDS]
    for kind, (title, rows) in KINDS.items():
        flags = ("--eval_datasets", json.dumps({kind: str(path) for kind, path in zip(KINDS, measured, strict=True)}))
        steps.append(
            Step(
                f"seed {seed}: reward model of {title}",
                *command(
                    "reward", *config("reward"), "--model_name_or_path", str(base),
                    "--dataset_name", str(folder / rows), "--image_folder", str(world),
                    "--output_dir", str(folder / f"reward-{kind}"), "--seed", str(seed), *flags,
                ),
                folder / f"reward-{kind}",
                [base, world, folder / rows, *measured, *sources("reward.yaml")],
            )
        )  # fmt: skip
    return steps


def compare_rewards(runs, seeds):
    """
    Accuracies on held-out pairs, means over seeds.

    Returns:
        `dict`: for each kind of pairs that a reward model learned from, and for the exact reward, and for each kind of
            held-out pairs: `accuracy`, `blind` (not of the exact one), and these of each seed, `seeds`.
    """
    folders = [runs / f"seed{seed}" for seed in seeds]
    found = {}
    for kind, (title, _) in KINDS.items():
        measures = [json.loads((folder / f"reward-{kind}" / "evaluation.json").read_text()) for folder in folders]
        found[title] = {
            other: {
                "accuracy": mean(part[name]["accuracy"] for part in measures),
                "blind": mean(part[f"{name}_blind"]["accuracy"] for part in measures),
                "ece": mean(part[name]["ece"] for part in measures),
                "seeds": [part[name]["accuracy"] for part in measures],
            }
            for name, (other, _) in KINDS.items()
        }
    found[EXACT] = {}
    for name, (other, _) in KINDS.items():
        values = [exact_accuracy(held_out(folder, name)) for folder in folders]
        found[EXACT][other] = {"accuracy": mean(values), "seeds": values}
    return found


def exact_accuracy(path):
    """How often the exact reward prefers the chosen answer of pairs with a column `objects`."""
    rows = load_preferences(path, check_images=False).select_columns(["objects", "chosen", "rejected"]).to_list()
    return mean(exact(row, "chosen") > exact(row, "rejected") for row in rows)


def exact(row, answer):
    """As `exact_reward`: fewer types that are not there, and then more that are."""
    names, truth = set(named_types(row[answer])), set(row["objects"])
    return -len(names - truth), len(names & truth)


def reward_table(rewards):
    """Headers and rows of a table of what [`compare_rewards`] returns."""
    kinds = [title for title, _ in KINDS.values()]
    rows = []
    for title, parts in rewards.items():
        cells = []
        for kind in kinds:
            part = parts[kind]
            blind = f" ({100 * part['blind']:.1f} %)" if "blind" in part else ""
            cells.append(f"{100 * part['accuracy']:.1f} %{blind}")
        rows.append([title, *cells])
    return ["reward model of", *(f"on {kind}" for kind in kinds)], rows


def mean(values):
    values = list(values)
    return sum(values) / len(values)
