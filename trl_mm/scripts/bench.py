"""`trl-mm bench NAME`: the figures of one benchmark on this machine."""

from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from ..bench.bdhs_config import BDHSBenchmark
from ..bench.convert_config import ConvertBenchmark
from ..bench.dpo_config import DPOBenchmark
from ..bench.online_dpo_config import OnlineDPOBenchmark
from ..bench.reward_config import RewardBenchmark
from ..bench.rloo_config import RLOOBenchmark
from .eval_scores import write_json
from .preflight import check_writable


@dataclass(kw_only=True)
class BenchArguments:
    """
    Arguments of `trl-mm bench ...` besides what is measured.

    Args:
        json (`str`, *optional*): file for the figures.
    """

    json: str | None = None

    def __post_init__(self):
        if self.json is not None:
            if Path(self.json).is_dir():
                raise ValueError(f"`json` ({self.json}) is a folder: name a file in it.")
            check_writable("json", Path(self.json).parent)


@dataclass(frozen=True)
class Bench:
    """
    The command of one benchmark, in place of a script of its own.

    Args:
        module (`str`): module of `trl_mm.bench`, imported when the settings are known to be right.
        settings (`type`): class of its settings.
    """

    module: str
    settings: type

    def make_parser(self):
        from .recipe_parser import RecipeParser

        return RecipeParser((BenchArguments, self.settings), prog=f"trl-mm bench {self.module.replace('_', '-')}")

    def main(self, argv=None):
        args, settings = self.make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
        benchmark = import_module(f"..bench.{self.module}", __package__)
        result = {**benchmark.measure(settings), "settings": asdict(settings), **environment()}
        print(benchmark.summary(result))
        if args.json is not None:
            write_json(Path(args.json), result)


def environment():
    """Device, threads and versions (`dict[str, Any]`) that figures depend on."""
    from importlib.metadata import version

    import torch

    names = ("trl-mm", "trl", "transformers", "torch", "peft", "accelerate")
    on_gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in names},
    }


bdhs = Bench("bdhs", BDHSBenchmark)
convert = Bench("convert", ConvertBenchmark)
dpo = Bench("dpo", DPOBenchmark)
online_dpo = Bench("online_dpo", OnlineDPOBenchmark)
reward = Bench("reward", RewardBenchmark)
rloo = Bench("rloo", RLOOBenchmark)
