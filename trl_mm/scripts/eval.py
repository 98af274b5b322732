"""`trl-mm eval`: what models say of images, by the benchmarks of [`trl_mm.eval.benchmarks`]."""

import json
from dataclasses import dataclass, field

from ..eval.benchmarks import BENCHMARKS
from .eval_models import check_models, loaded_models, models_of, named_values
from .eval_questions import as_asked, image_folders_of, limited, longest_answer, read_truths
from .models import ModelArguments, load_processor
from .output_lock import alone_in
from .preflight import check_attention, check_writable
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive


@dataclass(kw_only=True)
class EvalArguments(ModelArguments):
    """
    Arguments of `trl-mm eval`, besides [`AskingArguments`] and the settings of each benchmark.

    Args:
        model_name_or_path (`str`, *optional*): id or path of a vision-language model, or of a LoRA adapter for one.
        models (`list[str]`, *optional*): several models instead, as NAME=PATH. Each has a folder NAME in `output_dir`.
            Adapters in folders share their base in memory, and with it if it is among them; others are loaded one
            after the other.
        annotations (`str`, *optional*): COCO-style JSON with `images`, `annotations` and `categories`. CHAIR and
            POPE's questions need it; published POPE questions (`pope_files`) do not.
        image_folder (`str`, *optional*): folder of the images.
        image_folders (`list[str]`, *optional*): folders of the images of single benchmarks, as NAME=FOLDER, where they
            are not in `image_folder`.
        output_dir (`str`): where answers and `scores.json` go. A killed run's folder is resumed.
        benchmarks (`list[str]`, *optional*, defaults to `["chair", "pope"]`): what to measure.
    """

    model_name_or_path: str | None = None  # type: ignore[assignment]
    models: list[str] | None = None
    annotations: str | None = None
    image_folder: str | None = None
    image_folders: list[str] | None = None
    output_dir: str
    benchmarks: list[str] = field(default_factory=lambda: ["chair", "pope"], metadata={"choices": list(BENCHMARKS)})

    def __post_init__(self):
        check_positive(self, "process_timeout")
        for name in self.benchmarks:
            if name not in BENCHMARKS:
                raise ValueError(f"`benchmarks` has no {name!r}. Known: {', '.join(BENCHMARKS)}.")
        named_values("models", self.models)
        image_folders_of(self)


# Apart from the others: --help has the settings of the benchmarks in between
@dataclass(kw_only=True)
class AskingArguments:
    """
    How the questions of all benchmarks are asked.

    Args:
        max_images (`int`, *optional*): use only the first images of the annotations.
        limit (`int`, *optional*): ask only about the first images of each benchmark.
        max_new_tokens (`int`, *optional*): longest answer in tokens; defaults to the published length of each
            benchmark, and 256 where there is none, as for captions.
        batch_size (`int`, *optional*, defaults to `32`): questions that go through the model together.
        seed (`int`, *optional*, defaults to `0`): POPE questions and bootstrap samples derive from it.
    """

    max_images: int | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self):
        check_at_least(self, max_images=1, limit=1, max_new_tokens=1, batch_size=1, seed=0)


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((EvalArguments, *BENCHMARKS.values(), AskingArguments), prog="trl-mm eval")


def main(argv=None):
    args, *settings, asking = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
    known = dict(zip(BENCHMARKS, settings, strict=True))

    models = models_of(args)
    check_models(models)
    check_attention(args.attn_implementation)
    check_writable("output_dir", args.output_dir)
    state = process_state(args.process_timeout)
    with alone_in(output_dir=args.output_dir):
        run(args, models, {name: known[name] for name in args.benchmarks}, asking, state)
    state.destroy_process_group()


def run(args, models, benchmarks, asking, state):
    from ..eval.answers import check_questions, questions_digest

    # Everything that can be wrong in the files is found before a model is loaded
    truths = read_truths(args.annotations, asking.max_images)
    folders = image_folders_of(args)
    questions = {
        name: limited(benchmark.questions(truths, seed=asking.seed), asking.limit)
        for name, benchmark in benchmarks.items()
    }
    asked = {name: as_asked(name, rows, folders[name]) for name, rows in questions.items()}
    for model in models:
        model.processor = load_processor(model.args)
        for name, rows in asked.items():
            check_questions(rows, model.processor, name)
    digests = {name: questions_digest(rows) for name, rows in asked.items()}
    for model in models:
        check_kept(model, benchmarks, asked, digests, asking)

    partners = partners_of(state, args.process_timeout)
    for model, loaded in loaded_models(models, state.device):
        for name, benchmark in benchmarks.items():
            ask_model(model, loaded, benchmark, asked[name], digests[name], asking, name, state)
            partners.wait()
        del loaded  # or it would be in memory beside the next one
    state.wait_for_everyone()
    if state.is_main_process:
        for model in models:
            print(scored(model, benchmarks, questions, asking.seed))


def ask_model(model, loaded, benchmark, asked, digest, asking, name, state):
    """Ask one model the questions of one benchmark."""
    from ..data.fingerprints import weights_digest
    from ..eval.answers import answer_questions

    answer_questions(
        loaded,
        model.processor,
        asked,
        model.folder / name,
        {**settings_of(model), "weights": weights_digest(loaded, model.path), **benchmark.answer_settings()},
        max_new_tokens=longest_answer(benchmark, asking.max_new_tokens),
        batch_size=asking.batch_size,
        name=name if model.name is None else f"{model.name} {name}",
        rank=state.process_index,
        world_size=state.num_processes,
        digest=digest,
    )


def check_kept(model, benchmarks, asked, digests, asking):
    """Refuse a folder of other settings before the model is loaded; of a model on the Hub, other weights later."""
    from pathlib import Path

    from ..data.fingerprints import weights_digest
    from ..eval.answers import check_resumable, model_settings

    weights = {"weights": weights_digest(None, model.path)} if Path(model.path).is_dir() else {}
    for name, benchmark in benchmarks.items():
        settings = {**settings_of(model), **weights, **benchmark.answer_settings()}
        longest = longest_answer(benchmark, asking.max_new_tokens)
        settings = {**model_settings(settings, model.processor, longest), "questions": digests[name]}
        check_resumable(model.folder / name, settings, asked[name], asking.batch_size, unknown=("weights",))


def settings_of(model):
    """What decides the answers of a model besides weights and questions, for the manifest."""
    return {"model": model.path, "model_revision": model.args.model_revision, "dtype": model.args.dtype}


def scored(model, benchmarks, questions, seed):
    """Score the answers of a model, and write `scores.json`; returns what the terminal shows (`str`)."""
    from ..data.atomic_file import replacing
    from ..eval.answers import read_answers

    results = {
        name: benchmark.score(questions[name], read_answers(model.folder / name), seed=seed)
        for name, benchmark in benchmarks.items()
    }
    scores = with_overall(results, seed)
    path = model.folder / "scores.json"
    with replacing(path, "main") as file:
        file.write(json.dumps(scores, indent=2).encode() + b"\n")
    return f"{model.title}\n{summary(scores)}\nScores in {path}"


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
