"""`trl-mm bench bdhs`: rejected answers per second, beside the direct way to write BDHS, on this machine."""

from dataclasses import asdict

from ..bench.bdhs_config import BDHSBenchmark
from .bench_dpo import BenchArguments, environment, write_figures


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((BenchArguments, BDHSBenchmark), prog="trl-mm bench bdhs")


def main(argv=None):
    args, settings = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    import torch

    from ..bench.bdhs import compare

    result = {**compare(settings), "settings": asdict(settings), **environment(torch)}
    print(summary(result))
    write_figures(result, args.json)


def summary(result):
    """The figures as text (`str`)."""
    low, high = result["ratio_spread"]
    rates = ", ".join(f"{name} {side['answers_per_second']:.3f}" for name, side in result["sides"].items())
    return (
        f"{result['image_tokens']} image tokens per row; answers per second: {rates}\n"
        f"trl_mm is {result['ratio']:.1f}x as fast as the direct way [{low:.1f}, {high:.1f}]; "
        f"{result['equal_answers']:.0%} of the answers are the same"
    )


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
