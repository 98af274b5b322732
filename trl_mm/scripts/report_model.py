"""What models make of pairs, for `trl-mm report --model`: models are loaded one after the other."""

import gc
import os

from .models import ModelArguments, check_base, check_model_path, load_model, load_processor


def check_models(args):
    """Refuse settings of models that do not go together or name none, before any row is read."""
    if args.model is None:
        if args.ref_model is not None:
            raise ValueError("`ref_model` is what `model` is compared with. Name a `model`, too.")
        return
    for setting in ("model", "ref_model"):
        if getattr(args, setting) is not None:
            check_model_path(getattr(args, setting), setting)
            check_base(getattr(args, setting), setting)


def processor_of_model(args):
    """
    The processor of `model` (`ProcessorMixin`), with the system prompt; `None` without a model.

    Raises:
        ValueError: `model` or `ref_model` is no vision-language model, or they have different vocabularies.
    """
    if args.model is None:
        return None
    processor = load_processor(_model_arguments(args, args.model), "model")
    if args.ref_model is not None:
        other = load_processor(_model_arguments(args, args.ref_model), "ref_model")
        if other.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
            raise ValueError(
                f"`ref_model` ({args.ref_model}) has another vocabulary than `model` ({args.model}), so the two score "
                "different tokens. Name the model that its training began from."
            )
    return processor


def log_probs_of(args, processor, dataset, indices):
    """
    Score the pairs on the page.

    Args:
        args ([`ReportArguments`]): which model and, if there is one, reference.
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        dataset (`datasets.Dataset`): all pairs.
        indices (`list[int]`): numbers of the rows on the page.

    Returns:
        [`PairLogProbs`], or `None` if no row has all of its images.

    Raises:
        ValueError: a text holds a token that stands for an image, or a log-probability is not finite.
    """
    from ..data.tables import undecoded
    from ..tokens.lengths import count_tokens

    stored = undecoded(dataset)
    readable = [index for index in indices if has_images(stored[index])]
    if not readable:
        return None
    rows = dataset.select(readable)
    counts = count_tokens(rows, processor)
    found = [_scored(args, name, processor, rows, counts) for name in (args.model, args.ref_model) if name is not None]
    result = found[0]
    result.rows = readable
    if args.ref_model is not None:
        result.reference = shown_model(args.ref_model)
        result.reference_chosen, result.reference_rejected = found[1].chosen, found[1].rejected
    return result


def has_images(row):
    """Whether all images of a row, as they are stored, can be opened (`bool`)."""
    from ..data.images import ImageError, with_open_images

    try:
        with_open_images(row)
    except (ImageError, ValueError, OSError):
        return False
    return True


def shown_model(name):
    """A model's id, or the last part of its path (`str`)."""
    return os.path.basename(os.path.abspath(name)) if os.path.isdir(name) else name


def _scored(args, name, processor, rows, counts):
    """[`PairLogProbs`] of a model, which is loaded and let go."""
    import torch

    from ..trainer.pair_log_probs import pair_log_probs

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(_model_arguments(args, name), device, processor)
    try:
        return pair_log_probs(model, processor, rows, counts, name=shown_model(name), batch_size=args.batch_size)
    finally:
        del model
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _model_arguments(args, name):
    return ModelArguments(
        model_name_or_path=name,
        dtype=args.dtype,
        trust_remote_code=args.trust_remote_code,
        system_prompt=args.system_prompt,
    )
