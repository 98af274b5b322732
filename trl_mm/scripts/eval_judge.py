"""The judge of `trl-mm eval`, for benchmarks that one scores."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .models import ModelArguments, check_base, check_model_path, load_model, load_processor
from .ranges import check_at_least, check_positive
from .training import as_mapping


@dataclass(kw_only=True)
class JudgingArguments:
    """
    The judge of the benchmarks that one scores.

    Args:
        judge_model (`str`, *optional*): name of the judge at its endpoint, or without `judge_base_url` the id or path
            of a vision-language model that is loaded here, which answers greedily.
        judge_base_url (`str`, *optional*): endpoint of the judge, up to `/v1`; OpenAI's is https://api.openai.com/v1.
        judge_api_key_variable (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): environment variable that holds the
            key.
        judge_options (`dict`, *optional*): fields of a request in place of the published ones; `None` leaves one out,
            `{"max_tokens": None, "max_completion_tokens": 1000}`.
        judge_cache_dir (`str`, *optional*): folder of the replies, so that nothing is asked twice; defaults to
            `trl_mm/replies` in the cache of Hugging Face.
        judge_concurrency (`int`, *optional*, defaults to `8`): most requests at a time.
        judge_timeout (`float`, *optional*, defaults to `120.0`): seconds that a request may take.
        judge_batch_size (`int`, *optional*, defaults to `8`): questions that go through a judge that is loaded here
            together.
        answers_only (`bool`, *optional*, defaults to `False`): whether to write the answers and score nothing. The
            same command without it goes on with a judge.
    """

    judge_model: str | None = None
    judge_base_url: str | None = None
    judge_api_key_variable: str = "OPENAI_API_KEY"
    judge_options: dict | str | None = None
    judge_cache_dir: str | None = None
    judge_concurrency: int = 8
    judge_timeout: float = 120.0
    judge_batch_size: int = 8
    answers_only: bool = False

    def __post_init__(self):
        check_at_least(self, judge_concurrency=1, judge_batch_size=1)
        check_positive(self, "judge_timeout")
        if self.judge_base_url is not None and self.judge_model is None:
            raise ValueError("`judge_base_url` needs `judge_model`: the name of the judge at this endpoint.")
        if self.judge_options is not None:
            self.judge_options = as_mapping("judge_options", self.judge_options, '{"seed": 1}')


def check_judge(judging, benchmarks):
    """
    Refuse a run whose benchmarks need a judge that is not named or not there, before anything is loaded.

    Args:
        judging ([`JudgingArguments`]): the settings.
        benchmarks (`dict[str, Benchmark]`): the benchmarks of the run.

    Raises:
        ValueError: no judge is named, or what names it says neither an endpoint nor a model.
        FileNotFoundError: the model of the judge is not there.
    """
    needing = [name for name, benchmark in benchmarks.items() if benchmark.judge_options is not None]
    if not needing or judging.answers_only:
        return
    if judging.judge_model is None:
        raise ValueError(
            f"`judge_model` is missing: a judge scores {', '.join(needing)}. Pass --judge_model NAME --judge_base_url "
            "URL for one behind an endpoint, --judge_model PATH for one that is loaded here, or --answers_only, which "
            "writes the answers and scores nothing."
        )
    if judging.judge_base_url is None:
        try:
            check_model_path(judging.judge_model)
            check_base(judging.judge_model)
        except (ValueError, OSError) as error:
            text = str(error).replace("`model_name_or_path`", "`judge_model`")
            hint = "" if Path(judging.judge_model).exists() else " A judge behind an endpoint needs `judge_base_url`."
            raise type(error)(f"{text}{hint}") from error


def judges_of(judging, parts, device):
    """
    The judges of a run.

    Args:
        judging ([`JudgingArguments`]): the settings.
        parts (`list[Part]`): what is asked.
        device (`torch.device`): where a judge that is loaded here runs.

    Returns:
        `dict[str, Ask]`: the judge of each benchmark that needs one. Nothing is loaded before the first question.

    Raises:
        ValueError: the endpoint or its key cannot be used.
    """
    needing = [part for part in parts if part.benchmark.judge_options is not None]
    if not needing or judging.answers_only:
        return {}
    make = _local_judges if judging.judge_base_url is None else _endpoint_judges
    return make(judging, needing, device)


def _endpoint_judges(judging, parts, device):
    from ..eval.judging import EndpointAsk

    return {
        part.name: EndpointAsk(
            judging.judge_model,
            judging.judge_base_url,
            part.benchmark,
            judging.judge_options,
            api_key_variable=judging.judge_api_key_variable,
            max_concurrency=judging.judge_concurrency,
            timeout=judging.judge_timeout,
            cache_dir=judging.judge_cache_dir,
        )
        for part in parts
    }


def _local_judges(judging, parts, device):
    from types import SimpleNamespace

    from huggingface_hub.constants import HF_HOME
    from transformers import AutoConfig

    from ..data.fingerprints import weights_digest
    from ..eval.judging import LocalAsk

    args = ModelArguments(model_name_or_path=judging.judge_model)
    processor = load_processor(args)  # what it lacks shows before any model is loaded
    is_folder = Path(judging.judge_model).is_dir()
    config = None if is_folder else AutoConfig.from_pretrained(judging.judge_model)
    weights = weights_digest(SimpleNamespace(config=config), judging.judge_model)

    @cache
    def load():
        return load_model(args, device), processor

    folder = judging.judge_cache_dir or Path(HF_HOME) / "trl_mm" / "replies"
    return {
        part.name: LocalAsk(load, weights, part.benchmark, folder, judging.judge_options, judging.judge_batch_size)
        for part in parts
    }
