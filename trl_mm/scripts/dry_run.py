"""`--dry_run` of the commands that train: what a run would do and take, from configuration and data alone."""

import math
import os
import tempfile

from .launch_checks import check_quantization
from .training import load_splits, peft_config


def dry_run(
    args,
    training_args,
    model_args,
    needs,
    launch,
    *,
    pair_generator=None,
    answer_tokens=None,
    num_answers=2,
    answers_per_row=None,
    has_reference=None,
    has_value_model=False,
):
    """
    Print how the rows fit, what trains, the steps, and the memory that is expected on each GPU. No weight is loaded
    and nothing is left in `output_dir`. Rows and parts go through what the trainers have them go through.

    Args:
        args ([`TrainingDataArguments`]): the rows.
        training_args ([`~transformers.TrainingArguments`]): settings of the trainer.
        model_args ([`~trl.ModelConfig`]): the model.
        needs (`Sequence[str]`): columns that rows must have.
        launch (`dict`): accelerate's YAML; empty for one process.
        pair_generator ([`PairGenerator`], *optional*): what makes the `rejected` of the rows.
        answer_tokens (`int`, *optional*): longest answer, if answers are sampled.
        num_answers (`int`, *optional*, defaults to `2`): answers to a prompt in the loss.
        answers_per_row (`int`, *optional*): answers sampled to each row, where a batch counts these, and not rows.
        has_reference (`bool`, *optional*): whether a reference model stands beside the policy; by default if neither
            adapters nor precomputed log-probabilities spare it.
        has_value_model (`bool`, *optional*, defaults to `False`): whether a value model trains, too, as adapters on
            the policy's base.

    Raises:
        OSError: the model's configuration or processor cannot be had.
        ValueError: not started by `trl-mm`, or what training would refuse.
    """
    if launch is None:
        raise ValueError("`--dry_run` is for one process that `trl-mm` starts: `trl-mm COMMAND --config … --dry_run`.")

    from ..data.images import with_open_images
    from ..trainer.estimate.memory import ASSUMPTIONS, expected_memory, image_patches, largest_batch
    from ..trainer.estimate.sharding import read_sharding
    from ..trainer.parts.parameter_groups import check_optimizer, trained_parts_table
    from ..trainer.prefix_sharing.shared_forward import unsupported_reason
    from ..trainer.shared_base import new_value_model
    from ..trainer.vision_processor import vision_processor

    sharding = read_sharding(launch, training_args)
    check_optimizer(training_args)
    check_quantization(model_args, sharding.zero_stage == 3)
    check_config(model_args.model_name_or_path, training_args)
    processor = vision_processor(model_args.model_name_or_path, training_args)
    rows, reports = check_rows(args, training_args, needs, processor, pair_generator)
    for report in reports.values():
        print(report)
    model = model_without_weights(training_args, model_args, processor, sharding)
    if has_value_model:
        model.value_model = new_value_model(model)
    print(f"\n{trained_parts_table(model, training_args)}\n\n{steps(rows, training_args, sharding, answers_per_row)}")

    if model_args.load_in_4bit or model_args.load_in_8bit:
        print("The memory of quantized weights is not estimated.")
        return
    counts = reports["train"].kept
    widest = with_open_images(rows[int(counts.image.argmax())])
    batch = largest_batch(
        counts,
        training_args.per_device_train_batch_size // (num_answers if answers_per_row else 1),
        image_patches(widest["images"], processor, model.config.vision_config),
        getattr(training_args, "prefix_sharing", True) and unsupported_reason(model) is None,
        answer_tokens,
        num_answers,
    )
    if has_reference is None:
        cached = getattr(training_args, "precompute_ref_log_probs", False)
        has_reference = not (model_args.use_peft or cached)
    memory = expected_memory(model, training_args, sharding, batch, has_reference, 1 + has_value_model)
    print(
        f"\nExpected memory of each GPU, {sharding}, for a batch of {batch.tokens:,} tokens, "
        f"{batch.predicted:,} of them of answers, and {batch.patches:,} image patches:\n{memory}\n{ASSUMPTIONS}"
    )
    if args.gpu is not None:
        patches = image_patches(widest["images"], processor, model.config.vision_config)
        samples = answer_tokens is not None or pair_generator is not None
        print(f"\n{duration(args.gpu, model, training_args, sharding, counts, patches, samples)}")


def duration(gpu, model, args, sharding, counts, patches, samples):
    """The time of a step and of the run on a GPU, or why it is not estimated (`str`)."""
    from accelerate.utils import is_peft_model

    from ..bench.duration import expected_duration, known_gpu, seconds_per_row
    from ..trainer.prefix_sharing.shared_forward import unsupported_reason

    with_adapters = is_peft_model(model)
    model = model.get_base_model() if with_adapters else model
    if samples:
        return "The time is not estimated where answers are sampled."
    if sharding.mixed_precision != "bf16" or not hasattr(model.base_model, "language_model"):
        return "The time is estimated for models with a `language_model` in bfloat16 (`--bf16`) only."
    cached = getattr(args, "precompute_ref_log_probs", False)
    seconds = seconds_per_row(
        model,
        counts,
        patches,
        shared=getattr(args, "prefix_sharing", True) and unsupported_reason(model) is None,
        checkpointing=args.gradient_checkpointing,
        trains_all=not with_adapters,
        cached_reference=cached or not hasattr(args, "beta"),  # a reward model has no reference
        rate=known_gpu(gpu),
    )
    per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps
    all_rows = args.num_train_epochs * len(counts)
    if args.max_steps > 0:
        all_rows = args.max_steps * per_step * sharding.num_processes
    return expected_duration(seconds, per_step, all_rows, sharding.num_processes, gpu)


def check_rows(args, training_args, needs, processor, pair_generator):
    """The rows to train on (`datasets.Dataset`), as the trainer has them, and the [`FitReport`] of each dataset."""
    from ..trainer.row_checks import checked_rows

    training_args.output_dir = tempfile.mkdtemp(prefix="trl-mm-dry-run-")  # for a list of bad rows
    reports, rows = {}, []
    for name, dataset in zip(("train", "eval"), load_splits(args, training_args, needs), strict=True):
        rows.append(
            checked_rows(
                dataset, processor, training_args, needs, reports, name, training_args.max_length, pair_generator
            )
        )
        if hasattr(training_args, "max_completion_length") and dataset is not None:
            rows[-1] = with_room(rows[-1], reports[name], training_args)
    if not os.listdir(training_args.output_dir):
        os.rmdir(training_args.output_dir)
    return rows[0], reports


def with_room(rows, report, training_args):
    """Rows whose prompts leave room for the longest answer that is sampled; those of a context stay."""
    from ..trainer.prompt_room import rows_with_room

    longest, limit = training_args.max_completion_length, training_args.max_length
    return rows_with_room(rows, report, longest, limit, overlong=training_args.overlong)


def model_without_weights(training_args, model_args, processor, sharding):
    """The policy on the meta device, with its adapters, and with its parts as they will train."""
    import torch
    from peft import get_peft_model

    from ..trainer.parts.lora_targets import with_targets
    from ..trainer.parts.model_parts import meta_model
    from ..trainer.parts.prepare import prepare_parts

    model = meta_model(model_args.model_name_or_path, training_args)
    dtype = training_args.model_init_kwargs["dtype"]
    if dtype not in (None, "auto"):
        model.to(getattr(torch, dtype))
    adapters = with_targets(peft_config(model_args), model, training_args)
    if adapters is not None:
        with torch.device("meta"):
            # As TRL does it: under ZeRO-3 all weights must have the same type
            model = get_peft_model(model, adapters, autocast_adapter_dtype=sharding.zero_stage != 3)
    keeps_float32 = sharding.deepspeed or sharding.zero_stage > 0
    prepare_parts(model, processor, training_args, None if keeps_float32 else sharding.mixed_precision)
    return model


def check_config(model_id, args):
    """Raise an `OSError` with the cure if the configuration of a model cannot be had."""
    from transformers import AutoConfig

    revision = (args.model_init_kwargs or {}).get("revision")
    try:
        AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError) as error:
        raise OSError(
            f"`--dry_run` needs config.json of `model_name_or_path` ({model_id}), and it cannot be had: "
            f"{str(error).splitlines()[0]} Name a folder that holds it, or go online once."
        ) from error


def steps(rows, args, sharding, answers_per_row=None):
    """Steps of each epoch and of all, as the trainer counts them (`str`)."""
    count = len(rows)
    if answers_per_row is not None:  # whole generation batches, each of them several times
        prompts = args.generation_batch_size // answers_per_row
        count = count // prompts * prompts * answers_per_row * args.num_iterations
    batches = count / args.per_device_train_batch_size
    batches = math.floor(batches) if args.dataloader_drop_last else math.ceil(batches)
    per_epoch = max(1, math.ceil(math.ceil(batches / sharding.num_processes) / args.gradient_accumulation_steps))
    total = args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * per_epoch)
    return (
        f"Steps: {per_epoch:,} in an epoch, {total:,} together; "
        f"{args.per_device_train_batch_size * args.gradient_accumulation_steps * sharding.num_processes:,} "
        f"{'rows' if answers_per_row is None else 'answers'} in a "
        f"step ({args.per_device_train_batch_size} in a batch × {args.gradient_accumulation_steps} batches × "
        f"{sharding.num_processes} processes)."
    )
