"""`trl-mm eval`: what models say of images, by the benchmarks of [`trl_mm.eval.benchmarks`]."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..eval.benchmarks import BENCHMARKS, find_benchmark
from ..eval.paper_rows import find_paper_row
from .eval_asking import ask_endpoint, ask_here
from .eval_judge import JudgingArguments, check_judge, judges_of
from .eval_models import check_models, models_of, named_values
from .eval_questions import image_folders_of, parts_of
from .eval_record import record_of
from .eval_scores import scored, summary, write_json
from .models import ModelArguments
from .output_lock import alone_in
from .preflight import check_attention, check_writable
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive
from .training import as_mapping
from .vllm_models import VLLMArguments, check_one_process, check_vllm


@dataclass(kw_only=True)
class EvalArguments(ModelArguments, VLLMArguments):
    """
    Arguments of `trl-mm eval`, besides [`AskingArguments`], [`JudgingArguments`] and the settings of each benchmark.

    Args:
        model_name_or_path (`str`, *optional*): id or path of a vision-language model, or of a LoRA adapter for one.
        models (`list[str]`, *optional*): several models instead, as NAME=PATH. Each has a folder NAME in `output_dir`.
            Adapters in folders share their base in memory, and with it if it is among them; others are loaded one
            after the other. The `model_name_or_path` of a recipe is then not looked at. All are compared with the
            first one, in `results.md` and `report.html`.
        paper_row (`str`, *optional*): training of arXiv 2407.02477 whose figures stand beside, such as "BDHS
            attention, 5k".
        annotations (`str`, *optional*): COCO-style JSON with `images`, `annotations` and `categories`. CHAIR and
            POPE's questions need it; published POPE questions (`pope_files`) do not.
        image_folder (`str`, *optional*): folder of the images.
        image_folders (`list[str]`, *optional*): folders of the images of single benchmarks, as NAME=FOLDER, where they
            are not in `image_folder`.
        output_dir (`str`): where answers and `scores.json` go. A killed run's folder is resumed.
        benchmarks (`list[str]`, *optional*, defaults to `["chair", "pope"]`): what to measure, in any usual spelling;
            `trl-mm score --list` shows what there is.
    """

    model_name_or_path: str | None = None  # type: ignore[assignment]
    models: list[str] | None = None
    paper_row: str | None = None
    annotations: str | None = None
    image_folder: str | None = None
    image_folders: list[str] | None = None
    output_dir: str
    benchmarks: list[str] = field(default_factory=lambda: ["chair", "pope"])

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "process_timeout")
        try:
            self.benchmarks = list(dict.fromkeys(find_benchmark(str(name)) for name in self.benchmarks))
        except ValueError as error:
            raise ValueError(f"`benchmarks`: {error}") from error
        named_values("models", self.models)
        if self.paper_row is not None:
            find_paper_row(self.paper_row)
        image_folders_of(self)


CACHES = ("dynamic", "static")


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
        batch_size (`int` or `str`, *optional*, defaults to `32`): questions that go through the model together;
            `"auto"` finds by trial how many fit into the memory of a GPU, and asks fewer when that was too much.
        cache_implementation (`str`, *optional*, defaults to `"dynamic"`): where keys and values are kept: `"dynamic"`
            in memory that grows, `"static"` in memory of a fixed length, in which transformers compiles decoding on
            GPUs.
        compile_generation (`bool`, *optional*, defaults to `True`): with a static cache on a GPU, whether decoding is
            compiled. The first batches take minutes then.
        seed (`int`, *optional*, defaults to `0`): POPE questions and bootstrap samples derive from it.
        endpoint (`str`, *optional*): an OpenAI-compatible endpoint, up to `/v1`, that has the models, such as a vLLM
            server. `model_name_or_path` and the PATHs of `models` are then their names there.
        endpoint_api_key_variable (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): environment variable that holds
            the key.
        endpoint_options (`dict`, *optional*): further fields of a request beside `temperature` (0) and `max_tokens`,
            or other values of these; `None` leaves a field out.
        endpoint_concurrency (`int`, *optional*, defaults to `8`): most requests at a time, for each process.
        endpoint_timeout (`float`, *optional*, defaults to `120.0`): seconds that a request may take.
    """

    max_images: int | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    batch_size: int | str = 32
    cache_implementation: str = "dynamic"
    compile_generation: bool = True
    seed: int = 0
    endpoint: str | None = None
    endpoint_api_key_variable: str = "OPENAI_API_KEY"
    endpoint_options: dict | str | None = None
    endpoint_concurrency: int = 8
    endpoint_timeout: float = 120.0

    def __post_init__(self):
        check_at_least(self, max_images=1, limit=1, max_new_tokens=1, seed=0, endpoint_concurrency=1)
        if isinstance(self.batch_size, str) and self.batch_size != "auto":
            raise ValueError(f"`batch_size` must be a whole number or 'auto', got {self.batch_size!r}.")
        if self.batch_size != "auto":
            check_at_least(self, batch_size=1)
        check_positive(self, "endpoint_timeout")
        if self.cache_implementation not in CACHES:
            raise ValueError(
                f"`cache_implementation` must be one of {', '.join(CACHES)}, got {self.cache_implementation!r}."
            )
        if self.endpoint_options is not None:
            self.endpoint_options = as_mapping("endpoint_options", self.endpoint_options, '{"seed": 1}')


def make_parser():
    from .recipe_parser import RecipeParser

    kinds = (EvalArguments, *BENCHMARKS.values(), AskingArguments, JudgingArguments)
    return RecipeParser(kinds, prog="trl-mm eval")


def main(argv=None):
    args, *settings, asking, judging = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
    check_one_choice(args, argv)
    known = dict(zip(BENCHMARKS, settings, strict=True))
    benchmarks = {name: known[name] for name in args.benchmarks}

    models = models_of(args)
    if asking.endpoint is None:
        check_models(models)
        check_vllm(args, [model.path for model in models])
        check_attention(args.attn_implementation)
    elif args.use_vllm:
        raise ValueError("`use_vllm` runs a model here, and `endpoint` asks one elsewhere. Leave one of them out.")
    elif args.models is None and args.model_name_or_path is None:
        raise ValueError("`model_name_or_path` is missing: the name of the model at `endpoint`.")
    check_judge(judging, benchmarks)
    check_writable("output_dir", args.output_dir)
    check_writable("judge_cache_dir", judging.judge_cache_dir)
    state = process_state(args.process_timeout)
    check_one_process(args, state)
    with alone_in(output_dir=args.output_dir):
        run(args, models, benchmarks, asking, judging, state)
    state.destroy_process_group()


def check_one_choice(args, argv):
    """Refuse a model on the command line beside several; that of a recipe gives way to them."""
    words = sys.argv[1:] if argv is None else argv
    if args.models is not None and any(word.partition("=")[0] == "--model_name_or_path" for word in words):
        raise ValueError(
            f"`model_name_or_path` ({args.model_name_or_path}) would not be looked at beside `models`. Add it there, "
            "as NAME=PATH, or leave it out."
        )


def run(args, models, benchmarks, asking, judging, state):
    # Everything that can be wrong in the files is found before a model is loaded
    parts = parts_of(args, benchmarks, asking)
    judges = judges_of(judging, parts, state.device)
    ask = ask_here if asking.endpoint is None else ask_endpoint
    partners = partners_of(state, args.process_timeout)
    for model, part, answer in ask(models, parts, asking, state):
        answer(
            part.asked,
            model.folder / part.name,
            batch_size=asking.batch_size,
            name=part.name if model.name is None else f"{model.name} {part.name}",
            rank=state.process_index,
            world_size=state.num_processes,
            digest=part.digest,
        )
        del answer  # it holds the model, which would be in memory beside the next one
        partners.wait()
    state.wait_for_everyone()
    if state.is_main_process:
        for model in models:
            finish(model, parts, asking, judging, judges, state.device)
        if not judging.answers_only:
            print(compared(args, models, benchmarks, parts, asking))


def finish(model, parts, asking, judging, judges, device):
    """Judge and score the answers of a model, write what came of it, and show it."""
    write_json(model.folder / "run.json", record_of(model, parts, asking, judging, judges, device))
    if judging.answers_only:
        print(f"{model.title}\nAnswers in {model.folder}")
        return
    scores = scored(model, parts, judges, asking.seed)
    path = model.folder / "scores.json"
    write_json(path, scores)
    print(f"{model.title}\n{summary(scores)}\nScores in {path}")


def compared(args, models, benchmarks, parts, asking):
    """The table of all models beside the first one, and where it is written (`str`)."""
    from ..eval.result_files import write_results

    folders = {model.name or Path(model.path).name: model.folder for model in models}
    questions = {part.name: part.questions for part in parts}
    limit = asking.limit or asking.max_images
    settings = {"paper_row": args.paper_row, "limit": limit, "seed": asking.seed}
    return write_results(args.output_dir, folders, benchmarks, questions, **settings)


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
