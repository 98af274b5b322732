"""A reward model as a reward function of TRL: it sees the images, which TRL does not show to models it is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)

from ..data.images import with_open_images
from ..generation.one_process import in_one_process
from ..tokens.collator import PreferenceCollator
from ..tokens.control_tokens import as_text, image_placeholders
from ..tokens.processor import base_of_adapter, vision_processor_of
from .models import REWARD_MODELS  # and classes that AutoModelForSequenceClassification finds


UNTRAINED = (
    "`{name}` has no trained score, so its rewards would be random. Train it with `trl-mm reward`, or name the folder "
    "of a reward model."
)


class RewardModel:
    """
    Scores answers to prompts with images, by a model of [`MMRewardTrainer`].

    It is called as reward functions of TRL are, so it goes into `reward_funcs` of [`MMOnlineDPOTrainer`] or of TRL's
    trainers, and into [`RewardJudge`].

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]): id or path of a reward model or of a LoRA adapter of one,
            or the model.
        processor ([`~transformers.ProcessorMixin`], *optional*): its processor. Loaded with the model if it is not
            given.
        batch_size (`int`, *optional*, defaults to `8`): answers that go through the model together.
        max_length (`int`, *optional*): tokens that longer sequences are cut to.
        device (`str`, *optional*): where a model that is loaded here runs.
        **options: further arguments of `from_pretrained`, such as `dtype` and `revision`.

    Raises:
        ValueError: the model has no trained score, more than one label, or no image processor, is of a family without
            reward models, or an adapter of another base.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: ProcessorMixin | None = None,
        *,
        batch_size: int = 8,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        **options: Any,
    ):
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self.__name__ = "reward_model"  # TRL logs a reward under the name of its function
        if isinstance(model, str):
            trust = {name: options[name] for name in ("revision", "trust_remote_code") if name in options}
            processor = processor or vision_processor_of(model, "`model`", **trust)
            model = load_reward_model(model, **options).to(device or "cpu")
        if processor is None:
            raise ValueError("`processor` is missing: pass that of the model, or the id or path of the model.")
        if not hasattr(model, "score"):
            raise ValueError(f"`model` ({type(model).__name__}) has no score. Pass a reward model.")
        if model.config.num_labels != 1:
            raise ValueError(f"`model` has {model.config.num_labels} labels; a reward model has one.")
        self.model, self.batch_size = model.eval(), batch_size
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self.collator = PreferenceCollator(processor, max_length)
        self.image_placeholders = image_placeholders(processor)

    def __call__(
        self,
        prompts: Sequence[str | Sequence[Mapping[str, Any]]],
        completions: Sequence[str | Sequence[Mapping[str, Any]]],
        images: Sequence[Sequence[Any] | None] | None = None,
        image: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """
        Args:
            prompts (`list[list[dict]]` or `list[str]`): messages before the answers, or what the user says.
            completions (`list[list[dict]]` or `list[str]`): the answers, as messages or as text.
            images (`list[list[PIL.Image.Image]]`, *optional*): images of each prompt.
            image (`list[PIL.Image.Image]`, *optional*): the image of each, if there are no `images`.
            **kwargs: other columns, which are not looked at.

        Returns:
            `list[float]`: a reward for each answer.
        """
        if images is None and image is not None:  # TRL's name for a single one
            images = [None if picture is None else [picture] for picture in image]
        shown = [[]] * len(prompts) if images is None else [row or [] for row in images]
        rows = [
            with_open_images(
                {"images": pictures, "prompt": self._told(prompt, "user"), "chosen": self._told(answer, "assistant")}
            )
            for pictures, prompt, answer in zip(shown, prompts, completions, strict=True)
        ]
        rewards: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            batch = self.collator.of_one_answer(rows[start : start + self.batch_size])
            batch.pop("completion_mask")
            device = self.model.device
            batch = {
                name: value.to(device, self.model.dtype) if value.is_floating_point() else value.to(device)
                for name, value in batch.items()
            }
            with torch.no_grad():
                rewards += self.model(**batch).logits[:, 0].float().tolist()
        return rewards

    def _told(self, messages: str | Sequence[Mapping[str, Any]], role: str) -> list[dict[str, Any]]:
        """Messages that say where the images are, but do not hold them, and do not spell one that is not there."""
        if isinstance(messages, str):
            messages = [{"role": role, "content": messages}]
        told = []
        for message in messages:
            content = message.get("content")
            if isinstance(content, list):
                content = [
                    {"type": "image"}
                    if part.get("type") == "image"
                    else {**part, "text": as_text(part.get("text") or "", self.image_placeholders)}
                    for part in content
                ]
            elif isinstance(content, str):
                content = as_text(content, self.image_placeholders)
            told.append({**message, "content": content})
        return told


def load_reward_model(name: str, **options: Any) -> PreTrainedModel:
    """
    Load a reward model, whole in every process.

    Args:
        name (`str`): id or path of a model, or of a LoRA adapter of one.
        **options: further arguments of `from_pretrained`.

    Raises:
        ValueError: what [`check_reward_model`] refuses, or an adapter does not fit its base, or brings no score that
            was trained: it would be random.
    """
    check_reward_model(name, **options)
    base = base_of_adapter(name)
    misfit = (
        f"`{name}` does not fit its base ({base}): it was trained on another model, or with another number of labels. "
        "Write the right one into `base_model_name_or_path` of its adapter_config.json."
    )
    try:
        with in_one_process():
            model, report = AutoModelForSequenceClassification.from_pretrained(
                name, num_labels=1, output_loading_info=True, **options
            )
    except RuntimeError as error:  # sizes differ
        if base is None:
            raise
        raise ValueError(misfit) from error
    if base is not None and report["missing_keys"]:
        raise ValueError(misfit)
    missing = any(key.endswith("score.weight") for key in report["missing_keys"])
    if base is not None:  # whose report is of the adapter's own weights
        saved = any("score.modules_to_save" in key for key, _ in model.named_parameters())
        missing = not saved and not is_reward_model(AutoConfig.from_pretrained(base))
    if missing:
        raise ValueError(UNTRAINED.format(name=name))
    return model


def check_reward_model(name: str, **options: Any) -> None:
    """
    Refuse what is no reward model by its configuration, before weights are read.

    Args:
        name (`str`): id or path of a model, or of a LoRA adapter of one.
        **options: arguments of `from_pretrained`, of which `revision` and `trust_remote_code` count.

    Raises:
        ValueError: it is of a family that has no reward models here, has more than one label, or is a checkpoint of a
            model that writes.
    """
    trust = {key: options[key] for key in ("revision", "trust_remote_code") if key in options}
    base = base_of_adapter(name)
    try:
        config = AutoConfig.from_pretrained(name, **trust) if base is None else AutoConfig.from_pretrained(base)
    except (OSError, ValueError):  # such as an adapter on the Hub; loading says what is wrong, if anything is
        return
    if type(config) not in REWARD_MODELS:
        families = ", ".join(sorted(family.model_type for family in REWARD_MODELS))
        raise ValueError(f"`{name}` is of the family {config.model_type}, and reward models here are of {families}.")
    if is_reward_model(config):
        if config.num_labels != 1:
            raise ValueError(f"`{name}` has {config.num_labels} labels; a reward model has one.")
    elif base is None and config.architectures:
        raise ValueError(UNTRAINED.format(name=name))


def is_reward_model(config: PreTrainedConfig) -> bool:
    """Whether a configuration is of a checkpoint with a score."""
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
