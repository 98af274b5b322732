"""`trl-mm score NAME`: scores answers that any tool has written, as the benchmark's authors do, without a model."""

from dataclasses import asdict, dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import get_type_hints

from ..eval.benchmarks import BENCHMARKS, find_benchmark
from .eval_scores import write_json
from .preflight import check_writable


@dataclass(kw_only=True)
class ScoreArguments:
    """
    Arguments of `trl-mm score NAME` besides the settings of the benchmark.

    Args:
        answers (`str`): file of answers, in the published format or as JSON lines; `trl-mm score --list` says what
            each benchmark needs.
        json (`str`, *optional*): file for the scores.
        seed (`int`, *optional*, defaults to `0`): bootstrap samples of the intervals derive from it.
    """

    answers: str
    json: str | None = None
    seed: int = 0

    def __post_init__(self):
        if self.json is not None:
            if Path(self.json).is_dir():
                raise ValueError(f"`json` ({self.json}) is a folder: name a file in it.")
            check_writable("json", Path(self.json).parent)


@dataclass(frozen=True)
class Score:
    """The command of one benchmark, in place of a script of its own; `name` is its key in `BENCHMARKS`."""

    name: str

    def make_parser(self):
        from .recipe_parser import RecipeParser

        prog = f"trl-mm score {self.name}"
        kinds = (ScoreArguments, settings_of(self.name))
        return RecipeParser(kinds, prog=prog, usage=f"{prog} --answers FILE [--json OUT] [settings]")

    def main(self, argv=None):
        args, settings = self.make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
        result = score_file(self.name, Path(args.answers), asdict(settings), args.seed)
        print("\n".join(result.pop("lines")))
        if args.json is not None:
            write_json(Path(args.json), result)
            print(f"Scores in {args.json}")


def make_parser():
    """Parser of `trl-mm score` without the name of a benchmark, which lists them."""
    from .recipe_parser import RecipeParser

    parser = RecipeParser((), prog="trl-mm score", usage="trl-mm score NAME --answers FILE [--json OUT] [settings]")
    parser.add_argument("--list", action="store_true", help="Show all benchmarks, and what each needs.")
    return parser


def main(argv=None):
    for name, kind in BENCHMARKS.items():
        print(f"{name}: {kind.title}\n    a row of --answers: {kind.answer_rows}")
        for option in fields(settings_of(name)):
            print(f"    --{option.name} ({option.default})")
    print("`trl-mm score NAME --help` says what the options are.")


def score_file(name, path, settings, seed=0):
    """
    Score a file of answers.

    Args:
        name (`str`): key in `BENCHMARKS`.
        path (`Path`): the file.
        settings (`dict[str, Any]`): by the names that [`settings_of`] gives them.
        seed (`int`, *optional*, defaults to `0`): seed of the bootstrap.

    Returns:
        `dict[str, Any]`: `scores` as the published scorer has them, the whole `result`, `lines` for the terminal, and
        what was scored.
    """
    from datetime import UTC, datetime
    from importlib.metadata import version

    kind = BENCHMARKS[name]
    benchmark = kind(**{full: settings[short_name(name, full)] for full in kind.score_settings})
    questions, answers = benchmark.read_answers(path)
    result = benchmark.score(questions, answers, seed=seed)
    headline = benchmark.headline(benchmark.overall(result, seed=seed) | {name: result})
    return {
        "benchmark": name,
        "answers": str(path),
        "num_answers": len(answers),
        "settings": settings,
        "scores": benchmark.published_scores(result),
        "trl_mm": version("trl-mm"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "result": result,
        "lines": [*headline, *benchmark.lines(result)],
    }


def settings_of(name):
    """Settings of a benchmark that its scores depend on (a dataclass), without the name of the benchmark in theirs."""
    kind = BENCHMARKS[name]
    types = get_type_hints(kind)
    lines = kind.__doc__ or ""
    columns = []
    for full, default in kind.score_settings.items():
        short = short_name(name, full)
        lines = lines.replace(f" {full} (`", f" {short} (`")
        columns.append((short, types[full], field(default=default)))
    return make_dataclass(
        f"{kind.__name__}Settings", columns, kw_only=True, namespace={"__doc__": lines, "__module__": __name__}
    )


def short_name(name, setting):
    """`"pope_reading"` is `"reading"` to `trl-mm score pope`."""
    return setting.removeprefix(f"{name}_")


def __getattr__(name):
    """The command of each benchmark, as `trl_mm.scripts.score:NAME`."""
    if name.startswith("_"):
        raise AttributeError(name)
    return Score(find_benchmark(name))
