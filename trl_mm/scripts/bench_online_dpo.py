"""`trl-mm bench online-dpo`: an online DPO step of ours beside one of TRL's, on this machine."""

from dataclasses import asdict

from ..bench.online_dpo_config import OnlineDPOBenchmark
from .bench_dpo import BenchArguments, environment, peak, span, versus, write_figures


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((BenchArguments, OnlineDPOBenchmark), prog="trl-mm bench online-dpo")


def main(argv=None):
    args, settings = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    import torch

    from ..bench.online_dpo import compare

    result = {**compare(settings), "settings": asdict(settings), **environment(torch)}
    print(summary(result))
    write_figures(result, args.json)


def summary(result):
    """The figures as text (`str`), a line per side and one for what they differ in."""
    settings = result["settings"]
    lines = [
        f"prompts of {span(result['prompt_tokens'])} tokens, two answers of {settings['new_tokens']} to each, "
        f"{settings['batch_size']} per step",
        f"{'':9}{'s/step':>9}{'sampling':>10}{'steps/s':>9}{'peak GB':>9}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{name:9}{side['seconds_per_step']:9.2f}{side['sampling_seconds']:10.2f}{side['steps_per_second']:9.4f}"
            f"{peak(side):>9}"
        )
    return "\n".join([*lines, *versus(result)])


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
