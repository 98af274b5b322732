"""`trl-mm eval`: what a model says of images, by the benchmarks of [`trl_mm.eval.benchmarks`]."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from ..eval.benchmarks import BENCHMARKS
from .models import ModelArguments, check_base, check_model_path, load_model, load_processor
from .output_lock import alone_in
from .preflight import check_attention, check_writable
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive


@dataclass(kw_only=True)
class EvalArguments(ModelArguments):
    """
    Arguments of `trl-mm eval`, besides [`AskingArguments`] and the settings of each benchmark.

    Args:
        annotations (`str`, *optional*): COCO-style JSON with `images`, `annotations` and `categories`. CHAIR and
            POPE's questions need it; published POPE questions (`pope_files`) do not.
        image_folder (`str`): folder of the images.
        output_dir (`str`): where answers and `scores.json` go. A killed run's folder is resumed.
        benchmarks (`list[str]`, *optional*, defaults to `["chair", "pope"]`): what to measure.
    """

    annotations: str | None = None
    image_folder: str
    output_dir: str
    benchmarks: list[str] = field(default_factory=lambda: ["chair", "pope"], metadata={"choices": list(BENCHMARKS)})

    def __post_init__(self):
        check_positive(self, "process_timeout")
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                raise ValueError(f"`benchmarks` has no {name!r}. Known: {', '.join(BENCHMARKS)}.")


# Apart from the others: --help has the settings of the benchmarks in between
@dataclass(kw_only=True)
class AskingArguments:
    """
    How the questions of all benchmarks are asked.

    Args:
        max_images (`int`, *optional*): use only the first images of the annotations.
        max_new_tokens (`int`, *optional*, defaults to `256`): longest caption in tokens.
        batch_size (`int`, *optional*, defaults to `32`): questions that go through the model together.
        seed (`int`, *optional*, defaults to `0`): POPE questions and bootstrap samples derive from it.
    """

    max_images: int | None = None
    max_new_tokens: int = 256
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self):
        check_at_least(self, max_images=1, max_new_tokens=1, batch_size=1, seed=0)


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((EvalArguments, *BENCHMARKS.values(), AskingArguments), prog="trl-mm eval")


def main(argv=None):
    args, *settings, asking = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
    known = dict(zip(BENCHMARKS, settings, strict=True))

    check_model_path(args.model_name_or_path)
    check_base(args.model_name_or_path)
    check_attention(args.attn_implementation)
    check_writable("output_dir", args.output_dir)
    state = process_state(args.process_timeout)
    with alone_in(output_dir=args.output_dir):
        run(args, {name: known[name] for name in args.benchmarks}, asking, state)
    state.destroy_process_group()


def run(args, benchmarks, asking, state):
    from ..data.fingerprints import weights_digest
    from ..eval.answers import answer_questions, check_questions, read_answers

    truths = read_truths(args.annotations, asking.max_images)
    # Everything that can be wrong in the files is found before the model is loaded
    questions = {name: benchmark.questions(truths, seed=asking.seed) for name, benchmark in benchmarks.items()}
    asked = {name: without_truth(rows, args.image_folder) for name, rows in questions.items()}
    processor = load_processor(args)
    for name, rows in asked.items():
        check_questions(rows, processor, name)
    model = load_model(args, state.device)
    settings = {
        "model": args.model_name_or_path,
        "model_revision": args.model_revision,
        "weights": weights_digest(model, args.model_name_or_path),
        "dtype": args.dtype,
    }
    results: dict = {}
    partners = partners_of(state, args.process_timeout)
    for name, benchmark in benchmarks.items():
        folder = Path(args.output_dir) / name
        answer_questions(
            model,
            processor,
            asked[name],
            folder,
            {**settings, **benchmark.answer_settings()},
            max_new_tokens=benchmark.longest_answer(asking.max_new_tokens),
            batch_size=asking.batch_size,
            name=name,
            rank=state.process_index,
            world_size=state.num_processes,
        )
        partners.wait()
        state.wait_for_everyone()
        if state.is_main_process:
            results[name] = benchmark.score(questions[name], read_answers(folder), seed=asking.seed)
    if state.is_main_process:
        path = Path(args.output_dir) / "scores.json"
        scores = with_overall(results, asking.seed)
        path.write_text(json.dumps(scores, indent=2) + "\n")
        print(f"{args.model_name_or_path}\n{summary(scores)}\nScores in {path}")


def read_truths(annotations, max_images):
    """Objects of each image (`dict[str, set[str]]`), or `None` without annotations."""
    from ..eval.objects import load_annotations

    return None if annotations is None else dict(list(load_annotations(annotations).items())[:max_images])


def without_truth(rows, image_folder):
    """What is asked of rows: all but their `truth`, with the images where they are."""
    from ..data.images import resolve_image

    return [
        {
            **{name: value for name, value in row.items() if name != "truth"},
            "image": resolve_image(row["image"], image_folder)["path"],
        }
        for row in rows
    ]


def with_overall(results, seed):
    """Scores as they are written: in front of the results of the benchmarks what each says over all its parts."""
    scores = {}
    for name, result in results.items():
        scores |= BENCHMARKS[name].overall(result, seed=seed)
    return scores | results


def summary(scores):
    """Figures with their 95 % intervals as text."""
    shown = {name: benchmark for name, benchmark in BENCHMARKS.items() if name in scores}
    lines = [line for benchmark in shown.values() for line in benchmark.headline(scores)]
    lines += [line for name, benchmark in shown.items() for line in benchmark.lines(scores[name])]
    lines.append("[95 % intervals] are over images: these weights on other images. Another training may differ more.")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
