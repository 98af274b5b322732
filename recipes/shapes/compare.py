"""The comparison of the paper on the Shapes world: where the pairs come from, all else being equal.

python recipes/shapes/compare.py              three seeds
python recipes/shapes/compare.py --seeds 0    one
"""

import argparse
import json
from pathlib import Path

from methods import METHODS, training_steps
from pair_errors import pair_errors
from pipeline import alignment_steps, base_steps, eval_step, script, sources
from report import HEADERS, as_text, figure, interval
from rewards import EXPLANATION as REWARDS_EXPLANATION
from rewards import compare_rewards, reward_steps, reward_table
from steps import Step, run_steps

from trl_mm.eval.compare import compare_models
from trl_mm.report.page import Page


# Folder of a model: what it is
MODELS = {name: method.title for name, method in METHODS.items()}
# Suffix: flags of `trl-mm bdhs`
VARIANTS = {
    "-unguided": ("--guided", "false", "--max_attempts", "1"),
    "-noise": ("--mode", "noise"),
    "-noise-clamped": ("--mode", "noise", "--noise_range", "clamped"),
}
# Corrupted pairs, by what is written in place of a name
CORRUPTED = {"chance": "corrupted", "prior": "corrupted-prior"}
# Model that stored pairs train: their folder or file
PAIRS = {
    **{name: f"{name}.jsonl" for name in CORRUPTED.values()},
    "aligned": "pairs",
    **{f"aligned{suffix}": f"pairs{suffix}" for suffix in VARIANTS},
}
# Metric: its name in the table
SHOWN = {"chair_i": "CHAIR_i", "recall": "recall"}
PAIR_HEADERS = ["pairs of", "chosen: wrong", "by the prior", "rejected: wrong", "by the prior"]
EXPLANATION = (
    "Every model starts from the base of its seed and takes 120 steps of 16 prompts. Pairs train with TRL's sft "
    "term beside the DPO loss, as in the quickstart; Online-DPO, Mixed-DPO, RLOO and PPO have no such term. What is "
    "exact knows what is in the images, which no judge of real images does; the reward model has learned from "
    "corruption by "
    "the prior. Means over seeds on test images that no model has seen, with 95 % intervals; differences are to the "
    "base, on the same images and seeds, in percentage points. The last columns are the seeds one by one."
)


def compared_steps(folder, seed):
    """All models of one seed, and their evaluation."""
    world = folder / "world"
    captions = world / "captions.jsonl"
    stored = {by: folder / f"{name}.jsonl" for by, name in CORRUPTED.items()}
    steps = [*base_steps(folder, seed), *alignment_steps(folder, seed)]
    steps += [
        Step(
            f"seed {seed}: corrupt captions by {by}",
            *script(
                "corrupt.py", "--captions", str(captions), "--output", str(path), "--seed", str(seed), "--by", by
            ),
            path,
            [world, *sources("corrupt.py")],
        )
        for by, path in stored.items()
    ]  # fmt: skip
    steps += [*reward_steps(folder, seed), *training_steps(folder, seed)]
    for suffix, flags in VARIANTS.items():
        pairs, aligned, _ = alignment_steps(folder, seed, suffix, flags)
        steps += [pairs, aligned]
    # Not POPE, which is at chance in this world before and after
    return steps + [eval_step(folder, seed, name, flags=("--benchmarks", "chair")) for name in MODELS]


PAIR_EXPLANATION = (
    "Names in the answers of stored pairs that are not in the image, and those among them that are the partner of the "
    "name before, in the same answer. The captions were written by an annotator who shares the prior now and then, so "
    "the chosen answers hold such errors too. Pairs that are made online, and distorted answers, are not stored."
)


def compare_pairs(runs, seeds):
    """Errors of stored pairs (`dict`), means over seeds: name of the model to the columns of the table."""
    compared = {}
    for name, path in PAIRS.items():
        folders = [runs / f"seed{seed}" for seed in seeds]
        found = [pair_errors(folder / path, folder / "world") for folder in folders]
        compared[name] = {
            f"{answer}: {kind}": sum(errors[answer][kind] for errors in found) / len(found)
            for answer in ("chosen", "rejected")
            for kind in ("wrong", "by the prior")
        }
    return compared


def write_comparison(runs, seeds):
    """Table on the terminal, `comparison.json` and `comparison.html`."""
    scores = {
        name: [json.loads((runs / f"seed{seed}/eval_test/{name}/scores.json").read_text()) for seed in seeds]
        for name in MODELS
    }
    pairs = compare_pairs(runs, seeds)
    rewards = compare_rewards(runs, seeds)
    results = {"seeds": seeds, **compare_models(scores, first="aligned", second="base")}
    results |= {"pairs": pairs, "rewards": rewards}
    (runs / "comparison.json").write_text(json.dumps(results, indent=2) + "\n")
    headers = ["model"]
    for metric in SHOWN.values():
        headers += [metric, "- base", *(f"seed {seed}" for seed in seeds)]
    rows = [comparison_row(title, results[name]) for name, title in MODELS.items()]
    pair_rows = [
        [MODELS[name], *(f"{100 * share:.1f} %" for share in shares.values())] for name, shares in pairs.items()
    ]
    reward_headers, reward_rows = reward_table(rewards)
    tables = (headers, rows), (PAIR_HEADERS, pair_rows), (reward_headers, reward_rows)
    print("\n\n".join(as_text(*table) for table in tables))
    page = Page("Shapes: where preference pairs come from", f"seeds {', '.join(map(str, seeds))}")
    page.table(headers, rows)
    page.text(EXPLANATION)
    page.heading("All metrics")
    metrics = {metric: header for metric, header in HEADERS.items() if metric in results["base"]}
    page.table(
        ["model", *metrics.values()],
        [[title, *(figure(results[name], metric) for metric in metrics)] for name, title in MODELS.items()],
    )
    page.heading("What the pairs hold")
    page.table(PAIR_HEADERS, pair_rows)
    page.text(PAIR_EXPLANATION)
    page.heading("Reward models")
    page.table(reward_headers, reward_rows)
    page.text(REWARDS_EXPLANATION)
    page.heading("Side by side")
    for metric, header in SHOWN.items():
        values = [
            (title, 100 * results[name][metric], [100 * end for end in results[name]["intervals"][metric]])
            for name, title in MODELS.items()
        ]
        page.intervals(header, values, "%")
    print(f"\nFigures in {runs / 'comparison.json'}, page in {page.write(runs / 'comparison.html')}")


def comparison_row(title, result):
    """Of one model each metric, its difference to the base, and its value for each seed."""
    cells = [title]
    for metric in SHOWN:
        differs = "difference" in result
        cells += [figure(result, metric), interval(result["difference"][metric]) if differs else ""]
        cells += [f"{100 * value:.1f}" for value in result["seeds"][metric]]
    return cells


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/shapes"), help="folder of everything that is made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(argv)
    run_steps([step for seed in args.seeds for step in compared_steps(args.runs / f"seed{seed}", seed)])
    write_comparison(args.runs, args.seeds)


if __name__ == "__main__":
    main()
