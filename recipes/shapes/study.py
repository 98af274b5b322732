"""The study behind the quickstart: settings compared on validation images, then the quickstart over several seeds."""

import json

from pipeline import MODELS, alignment_steps, base_steps, eval_step, quickstart_steps
from report import HEADERS, as_text, figure, write_report
from steps import run_steps

from trl_mm.eval.compare import compare_models


# What is changed, one thing at a time, from the recipes: name -> (flags of `trl-mm bdhs`, flags of `trl-mm dpo`)
SETTINGS = {
    "as the recipes": ((), ()),
    "without the SFT term": ((), ("--loss_type", "sigmoid", "--loss_weights", "1.0")),
    "learning rate 2e-5": ((), ("--learning_rate", "2e-5")),
    "learning rate 8e-5": ((), ("--learning_rate", "8e-5")),
    "beta 0.5": ((), ("--beta", "0.5")),
    "threshold 0.6": (("--mask_threshold", "0.6"), ()),
    "threshold 0.6, positions original": (("--mask_threshold", "0.6", "--positions", "original"), ()),
}
CONTROLS = {"control, learning rate 1e-4": "1e-4", "control, learning rate 4e-4": "4e-4"}


def study(runs, seeds):
    """Base, control and aligned on the test images over all seeds; then a sweep on validation images of the first."""
    run_steps([step for seed in seeds for step in quickstart_steps(runs / f"seed{seed}", seed)])
    write_report(runs, seeds, MODELS)
    sweep(runs, seeds[0])


def sweep(runs, seed):
    folder = runs / f"seed{seed}"
    steps, models = [*base_steps(folder, seed), eval_step(folder, seed, "base", "validation")], {"base": "base"}
    for number, (name, (bdhs, dpo)) in enumerate(SETTINGS.items()):
        suffix = f"-{number}" if number else ""
        pairs, aligned, control = alignment_steps(folder, seed, suffix, bdhs, dpo)
        steps += [pairs, aligned, eval_step(folder, seed, f"aligned{suffix}", "validation")]
        models[name] = f"aligned{suffix}"
        if not number:
            steps += [control, eval_step(folder, seed, "control", "validation")]
            models["control"] = "control"
    for name, rate in CONTROLS.items():
        suffix = f"-lr{rate}"
        *_, control = alignment_steps(folder, seed, suffix, sft=("--learning_rate", rate), pairs="pairs")
        steps += [control, eval_step(folder, seed, f"control{suffix}", "validation")]
        models[name] = f"control{suffix}"
    run_steps(steps)
    scores = {
        name: [json.loads((folder / "eval_validation" / model / "scores.json").read_text())]
        for name, model in models.items()
    }
    results = compare_models(scores, first="as the recipes", second="base")
    (runs / "sweep.json").write_text(json.dumps(results, indent=2) + "\n")
    rows = [[name, *(figure(results[name], metric) for metric in HEADERS)] for name in models]
    print(as_text(["validation images", *HEADERS.values()], rows))
