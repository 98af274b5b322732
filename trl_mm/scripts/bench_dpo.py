"""`trl-mm bench dpo`: a DPO step of ours beside one of TRL's, on this machine."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..bench.dpo_config import DPOBenchmark
from .preflight import check_writable


@dataclass(kw_only=True)
class BenchArguments:
    """
    Arguments of `trl-mm bench ...` besides what is measured.

    Args:
        json (`str`, *optional*): file for the figures.
    """

    json: str | None = field(default=None, metadata={"help": "File for the figures."})

    def __post_init__(self):
        if self.json is not None:
            check_writable("json", Path(self.json).parent)


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((BenchArguments, DPOBenchmark), prog="trl-mm bench dpo")


def main(argv=None):
    args, settings = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    import torch

    from ..bench.dpo import compare

    result = {**compare(settings), "settings": asdict(settings), **environment(torch)}
    print(summary(result))
    write_figures(result, args.json)


def write_figures(result, path):
    """Write figures as JSON to a file, if there is a path."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def environment(torch):
    """Device, threads and versions (`dict[str, Any]`) that figures depend on."""
    from importlib.metadata import version

    names = ("trl-mm", "trl", "transformers", "torch", "peft", "accelerate")
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in names},
    }


def summary(result):
    """The figures as text (`str`), a line per side and one for what they differ in."""
    floor = result["floor"]
    lines = [
        f"prompt {span(floor['prompt_tokens'])} tokens, answers {span(floor['answer_tokens'])}; floor "
        f"{floor['flops'] / 1e12:.2f} TFLOP per step, {floor['seconds']:.2f} s at "
        f"{floor['matrix_flops_per_second'] / 1e12:.2f} TFLOP/s",
        f"{'':9}{'s/step':>9}{'pairs/s':>9}{'tokens/s':>10}{'of floor':>10}{'peak GB':>9}",
    ]
    for name, side in result["sides"].items():
        lines.append(
            f"{name:9}{side['seconds_per_step']:9.2f}{side['pairs_per_second']:9.3f}{side['tokens_per_second']:10.0f}"
            f"{side['share_of_floor']:10.0%}{peak(side):>9}"
        )
    if "reference" in result:
        reference = result["reference"]
        lines.append(
            f"the reference took {reference['seconds_per_pair']:.2f} s per pair before training and saves "
            f"{reference['saved_per_pair']:.2f} s in each epoch: earned back in {reference['epochs_to_earn_back']:.1f}"
        )
    return "\n".join([*lines, *versus(result)])


def versus(result):
    """What ours and TRL's differ in (`list[str]`): one line, or none if there was no comparison."""
    if "ratio" not in result:
        return []
    low, high = result["ratio_spread"]
    memory = f", {result['memory_ratio']:.2f}x the memory" if result["memory_ratio"] is not None else ""
    return [
        f"trl_mm is {result['ratio']:.2f}x as fast as TRL [{low:.2f}, {high:.2f}]{memory}; largest relative "
        f"difference of losses {result['max_loss_difference']:.1e}, of gradient norms "
        f"{result['max_grad_norm_difference']:.1e}"
    ]


def span(bounds):
    """Smallest and largest number as text (`str`)."""
    low, high = bounds
    return f"{low}" if low == high else f"{low} to {high}"


def peak(side):
    """Peak memory of a side in GB as text (`str`)."""
    return f"{side['peak_memory'] / 1e9:.2f}" if "peak_memory" in side else "-"


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
