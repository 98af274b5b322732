"""Who answers the questions of `trl-mm eval`: models that are loaded here, or an endpoint.

Both give, for each model and each benchmark, a function that asks. What they can refuse, they refuse before the first.
"""

from functools import partial
from pathlib import Path

from .eval_models import loaded_models
from .models import load_processor


def ask_here(models, parts, asking, state):
    """
    Ask models that are loaded here, one after the other.

    Args:
        models (`list[EvaluatedModel]`): the models; their processors are loaded.
        parts (`list[Part]`): what they are asked.
        asking ([`~trl_mm.scripts.eval.AskingArguments`]): how.
        state (`accelerate.PartialState`): this process.

    Yields:
        `tuple[EvaluatedModel, Part, Callable]`: with a function like
        [`~trl_mm.eval.answers.answer_questions`], model, processor, settings and length given. It holds the model.

    Raises:
        ValueError: a question spells an image, or the folder of a model has answers of other settings.
    """
    from ..data.fingerprints import weights_digest
    from ..eval.answers import answer_questions, check_questions, model_settings

    for model in models:
        model.processor = load_processor(model.args)
        for part in parts:
            check_questions(part.asked, model.processor, part.name)
    for model in models:
        weights = {"weights": weights_digest(None, model.path)} if Path(model.path).is_dir() else {}
        for part in parts:
            settings = {**settings_of(model), **weights, **part.benchmark.answer_settings()}
            check_kept(model, part, model_settings(settings, model.processor, part.longest), asking)
    for model, loaded in loaded_models(models, state.device):
        settings = {**settings_of(model), "weights": weights_digest(loaded, model.path)}
        for part in parts:
            yield (
                model,
                part,
                partial(
                    answer_questions,
                    loaded,
                    model.processor,
                    settings={**settings, **part.benchmark.answer_settings()},
                    max_new_tokens=part.longest,
                    cache_implementation=asking.cache_implementation,
                    compile_generation=asking.compile_generation,
                ),
            )
        del loaded  # as its caller does, or it would be in memory beside the next one


def ask_endpoint(models, parts, asking, state):
    """
    Ask models behind an endpoint; arguments and what it yields as in [`ask_here`].

    Raises:
        ValueError: the endpoint or its key cannot be used, or the folder of a model has answers of other settings.
    """
    from ..eval.endpoint_answers import answer_questions_remotely
    from ..judges.remote_client import ChatClient

    asked = []
    for model in models:
        for part in parts:
            options = {"temperature": 0, "max_tokens": part.longest, **(asking.endpoint_options or {})}
            client = ChatClient(
                model.path,
                asking.endpoint,
                api_key_variable=asking.endpoint_api_key_variable,
                options={name: value for name, value in options.items() if value is not None},
                max_concurrency=asking.endpoint_concurrency,
                timeout=asking.endpoint_timeout,
                image_format="png",  # what is measured should see the image as it is
                # Not the shared one: a name at an endpoint may stand for other weights tomorrow
                cache_dir=model.folder / "replies",
                system_prompt=model.args.system_prompt,
            )
            settings = {
                "model": model.path,
                "endpoint": asking.endpoint,
                "endpoint_options": asking.endpoint_options,
                **({"system_prompt": model.args.system_prompt} if model.args.system_prompt else {}),
                **part.benchmark.answer_settings(),
                "max_new_tokens": part.longest,
            }
            check_kept(model, part, settings, asking)
            asked.append((model, part, partial(answer_questions_remotely, client, settings=settings)))
    yield from asked


def check_kept(model, part, settings, asking):
    """Refuse a folder of other settings before a model is loaded; weights that are not known yet are left out."""
    from ..eval.answers import check_resumable

    settings = {**settings, "questions": part.digest}
    check_resumable(model.folder / part.name, settings, part.asked, asking.batch_size, unknown=("weights",))


def settings_of(model):
    """What decides the answers of a model besides weights and questions, for the manifest."""
    engine = {"engine": "vllm"} if model.args.use_vllm else {}
    return {"model": model.path, "model_revision": model.args.model_revision, "dtype": model.args.dtype, **engine}
