"""A reward model as a reward function of TRL: it sees the images, which TRL does not show to models it is given."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, ProcessorMixin

from ..data.images import with_open_images
from ..tokens.collator import PreferenceCollator
from ..tokens.processor import vision_processor_of
from . import models as _registered  # noqa: F401  classes that AutoModelForSequenceClassification finds


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
        ValueError: the model has no trained score, more than one label, or no image processor.
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
        if getattr(model.config, "num_labels", None) != 1:
            raise ValueError(f"`model` has {model.config.num_labels} labels; a reward model has one.")
        self.model, self.batch_size = model.eval(), batch_size
        if processor.tokenizer.pad_token is None:
            processor.tokenizer.pad_token = processor.tokenizer.eos_token
        self.collator = PreferenceCollator(processor, max_length)

    def __call__(
        self,
        prompts: Sequence[Sequence[Mapping[str, Any]]],
        completions: Sequence[Sequence[Mapping[str, Any]]],
        images: Sequence[Sequence[Any] | None] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """
        Args:
            prompts (`list[list[dict]]`): messages before the answers.
            completions (`list[list[dict]]`): the answers, as messages.
            images (`list[list[PIL.Image.Image]]`, *optional*): images of each prompt.
            **kwargs: other columns, which are not looked at.

        Returns:
            `list[float]`: a reward for each answer.
        """
        shown = [[]] * len(prompts) if images is None else [row or [] for row in images]
        rows = [
            with_open_images({"images": pictures, "prompt": with_places(prompt), "chosen": list(answer)})
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


def load_reward_model(name: str, **options: Any) -> PreTrainedModel:
    """
    Load a reward model.

    Args:
        name (`str`): id or path of a model, or of a LoRA adapter of one.
        **options: further arguments of `from_pretrained`.

    Raises:
        ValueError: its score was not trained: it would be random.
    """
    model, report = AutoModelForSequenceClassification.from_pretrained(
        name, num_labels=1, output_loading_info=True, **options
    )
    missing = [key for key in report["missing_keys"] if key.endswith("score.weight")]
    adapter = any("modules_to_save" in key for key, _ in model.named_parameters())
    if missing and not adapter:
        raise ValueError(
            f"`{name}` has no trained score, so its rewards would be random. Train it with `trl-mm reward`, or name "
            "the folder of a reward model."
        )
    return model


def with_places(prompt: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages that say where the images are, as TRL's prompts do, but do not hold them."""
    messages = []
    for message in prompt:
        content = message.get("content")
        if isinstance(content, list):
            content = [{"type": "image"} if part.get("type") == "image" else part for part in content]
        messages.append({**message, "content": content})
    return messages
