"""Settings that `MMRLOOTrainer` adds to TRL's."""

from dataclasses import dataclass

from datasets import Dataset
from trl import RLOOConfig

from .on_policy.config import AnswerSamplingConfig
from .parts.config import TrainedPartsConfig
from .precision import check_precision
from .rows_config import RowsConfig


@dataclass
class MMRLOOConfig(RowsConfig, TrainedPartsConfig, AnswerSamplingConfig, RLOOConfig):
    """
    Configuration of [`MMRLOOTrainer`]. The only changes w.r.t. [`~trl.RLOOConfig`] are the arguments below and those
    of [`RowsConfig`], [`TrainedPartsConfig`] and [`AnswerSamplingConfig`]. A prompt fits if `max_length` leaves room
    for `max_completion_length` tokens behind it.

    Args:
        normalize_rewards (`bool`, *optional*, defaults to `False`):
            Whether each reward function is put on the scale of the training rows, as in arXiv 2407.02477: less the
            mean, over the standard deviation, of its rewards of the answers that the rows hold (`chosen`, `rejected`,
            `completion`). Measured once, before training, and kept in `reward_scale.json` in the output directory.
        normalization_rows (`int`, *optional*):
            Rows that are measured for it, drawn at random; all by default.
        missing_eos_penalty (`float`, *optional*):
            What an answer without EOS token, cut at `max_completion_length`, loses of its reward, once this is
            normalised. The share of such answers is `completions/clipped_ratio`. `mask_truncated_completions` of TRL
            leaves them out of the loss.
        sampling_batch_size (`int`, *optional*):
            Answers that are sampled together, at most; those to one prompt always are. By default all that one process
            samples before it trains on them, `per_device_train_batch_size` times `steps_per_generation`, as in TRL.
        dataset_num_proc (`int`, *optional*):
            Processes that count tokens before training.
    """

    normalize_rewards: bool = False
    normalization_rows: int | None = None
    missing_eos_penalty: float | None = None
    sampling_batch_size: int | None = None
    dataset_num_proc: int | None = None

    def __post_init__(self) -> None:
        if self.missing_eos_penalty is not None and self.missing_eos_penalty < 0:
            raise ValueError(
                f"`missing_eos_penalty` is taken from the reward, so it must be 0 or more, got "
                f"{self.missing_eos_penalty}."
            )
        for name in ("sampling_batch_size", "normalization_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        check_precision(self)
        super().__post_init__()


def check_template_settings(args: RLOOConfig) -> None:
    """
    Refuse what TRL hands to the chat template at each call: here the processor has all that it renders with.

    Raises:
        ValueError: `chat_template_kwargs` is set.
    """
    if args.chat_template_kwargs:
        raise ValueError(
            f"`chat_template_kwargs` ({args.chat_template_kwargs}) do not reach the chat template. Write them into it "
            "instead, as `{% set NAME = VALUE %}` at the beginning of `processor.chat_template`."
        )


def check_generation_batch(args: RLOOConfig, dataset: Dataset | None) -> None:
    """
    Refuse rows that do not fill a generation batch: TRL leaves out what does not, and would train on nothing.

    Raises:
        ValueError: there are fewer rows than prompts in a generation batch.
    """
    prompts = args.generation_batch_size // args.num_generations
    if dataset is not None and len(dataset) < prompts:
        raise ValueError(
            f"`train_dataset` has {len(dataset)} rows, and answers to {prompts} prompts are sampled at a time "
            f"(`generation_batch_size` {args.generation_batch_size} over `num_generations` {args.num_generations}). "
            "Lower `gradient_accumulation_steps`, `steps_per_generation` or `per_device_train_batch_size`."
        )
