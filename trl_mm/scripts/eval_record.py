"""`run.json` of `trl-mm eval`: what was measured, how it was asked, and with which versions."""

import hashlib
import json
import platform
from dataclasses import asdict
from datetime import UTC, datetime


PACKAGES = ("trl-mm", "trl", "transformers", "peft", "tokenizers", "torch", "pillow")


def record_of(model, parts, asking, judging, judges, device):
    """
    What decided the result of one model, beside the result.

    Args:
        model ([`~trl_mm.scripts.eval_models.EvaluatedModel`]): the model, its answers finished.
        parts (`list[Part]`): what was asked.
        asking ([`~trl_mm.scripts.eval.AskingArguments`]): how.
        judging ([`~trl_mm.scripts.eval_judge.JudgingArguments`]): the settings of the judge.
        judges (`dict[str, Ask]`): the judges.
        device (`torch.device`): where it ran.

    Returns:
        `dict[str, Any]`: JSON values.
    """
    from ..data.manifest import installed_version, read_manifest

    kept = {part.name: read_manifest(model.folder / part.name)["settings"] for part in parts}
    weights = {settings.get("weights") for settings in kept.values()}
    return {
        "name": model.name,
        "model": model.path,
        "revision": model.args.model_revision,
        "weights": weights.pop() if len(weights) == 1 else sorted(map(str, weights)),
        "dtype": model.args.dtype,
        "attn_implementation": model.args.attn_implementation,
        "system_prompt": model.args.system_prompt,
        **({"endpoint": asking.endpoint} if model.processor is None else processor_settings(model.processor)),
        "decoding": {"greedy": True, "batch_size": asking.batch_size, "endpoint_options": asking.endpoint_options},
        "seed": asking.seed,
        "max_images": asking.max_images,
        "limit": asking.limit,
        "benchmarks": {
            part.name: part_record(part, model.processor, judging if part.name in judges else None) for part in parts
        },
        "versions": {name: installed_version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": device_name(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def part_record(part, processor, judging):
    """What was asked of one benchmark, and of its judge if there is one (`dict[str, Any]`)."""
    images = {row["image"] for row in part.asked} - {None}
    record = {
        "settings": asdict(part.benchmark),
        "questions": len(part.asked),
        "images": len(images),
        "digest": part.digest,
        "first_question": part.asked[0]["question"] if part.asked else None,
        "max_new_tokens": part.longest,
    }
    if processor is not None and part.asked:
        record["first_prompt"] = first_prompt(part, processor)
    if judging is not None:
        record["judge"] = judge_record(part, judging)
    return record


def first_prompt(part, processor):
    """The first question as the model reads it (`str`), with one placeholder for its image."""
    from ..eval.answers import as_prompt, opened_images
    from ..tokens.chat import render

    images = opened_images(part.asked[:1])[0]
    return render({"images": images, "prompt": as_prompt(part.asked[0]["question"])}, processor).prompt


def judge_record(part, judging):
    """Who judged a benchmark, and what it was asked (`dict[str, Any]`); no key."""
    from ..eval.judging import judge_prompt_digest, merged_options

    return {
        "model": judging.judge_model,
        "base_url": judging.judge_base_url,
        "options": merged_options(part.benchmark, {}, judging.judge_options or {}),
        "system": part.benchmark.judge_system,
        "prompts": judge_prompt_digest(part.benchmark, part.questions, part.asked),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def processor_settings(processor):
    """Chat template and image settings of a processor (`dict[str, Any]`)."""
    template = processor.chat_template
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()
    return {
        "chat_template": {"sha256": digest, "text": template},
        "image_processor": json.loads(processor.image_processor.to_json_string()),
    }


def device_name(device):
    """What the model ran on (`str`)."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
