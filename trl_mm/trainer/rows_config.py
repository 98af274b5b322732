"""Settings of every trainer: which rows it takes, and how it lays them out."""

from dataclasses import dataclass, field, fields

from .kernels import check_kernels


@dataclass
class RowsConfig:
    """
    To be inherited beside a configuration of TRL.

    Args:
        max_length (`int`, *optional*, defaults to `4096`):
            Longest sequence in tokens, image tokens included. TRL's defaults, 1,024 and 512, are shorter than an image
            of LLaVA-1.6 (1,176 to 2,928 tokens). Answers are cut to fit, prompts and image tokens never.
        overlong (`str`, *optional*, defaults to `"drop"`):
            What becomes of rows whose prompt alone does not fit `max_length`: `"drop"` counts and drops them before
            training, `"error"` refuses the dataset.
        check_images (`bool`, *optional*, defaults to `True`):
            Whether to decode every image once before training, as only this shows a truncated file.
        on_bad_image (`str`, *optional*, defaults to `"error"`):
            What becomes of rows with a missing or undecodable image: `"error"` refuses the dataset, `"skip"` leaves
            them out, counts them, and lists them in `bad_rows.jsonl` in the output directory.
        prefix_sharing (`bool`, *optional*, defaults to `True`):
            Whether to compute the prompt and its images once for both answers instead of once for each. Losses are
            the same up to rounding. Models and attention implementations that do not fit train in TRL's layout, which
            is said once at level `info`.
        system_prompt (`str`, *optional*):
            System message of conversations that have none of their own, in training, sampling and evaluation alike,
            such as the one that the model was trained with. Rows stay as they are; the saved chat template has it.
    """

    max_length: int | None = field(
        default=4096,
        metadata={"help": "Longest sequence in tokens, image tokens included. Prompts are never cut."},
    )
    overlong: str = field(
        default="drop",
        metadata={"help": "Rows whose prompt does not fit `max_length`: drop or error.", "choices": ["drop", "error"]},
    )
    check_images: bool = field(default=True, metadata={"help": "Whether to decode every image once before training."})
    on_bad_image: str = field(
        default="error",
        metadata={"help": "Rows with a missing or undecodable image: error or skip.", "choices": ["error", "skip"]},
    )
    prefix_sharing: bool = field(
        default=True, metadata={"help": "Whether to compute the prompt and its images once for both answers."}
    )

    system_prompt: str | None = field(
        default=None, metadata={"help": "System message of conversations that have none of their own."}
    )

    def __post_init__(self):
        check_choices(self, overlong=("drop", "error"), on_bad_image=("error", "skip"))
        super().__post_init__()


@dataclass
class BatchesConfig:
    """
    To be inherited beside [`RowsConfig`] where batches of stored rows are trained on.

    Args:
        group_by_image (`bool`, *optional*, defaults to `False`):
            Whether rows of one image, and pairs of one prompt, come into one batch, where they are computed together
            (`prefix_sharing`). Batches are random otherwise, or of similar lengths with
            `train_sampling_strategy="group_by_length"`. A `per_device_train_batch_size` that holds all rows of an
            image parts none.
    """

    group_by_image: bool = field(
        default=False, metadata={"help": "Whether rows of one image come into one batch, where they share it."}
    )

    def __post_init__(self):
        if self.group_by_image and self.train_sampling_strategy == "sequential":
            raise ValueError(
                "`group_by_image=True` puts rows into an order of its own, and `train_sampling_strategy='sequential'` "
                "keeps theirs. Use 'random' or 'group_by_length', or leave `group_by_image` out."
            )
        super().__post_init__()


def check_choices(config, **choices):
    """Raise a `ValueError` if a setting is not among its choices (`tuple[str]`)."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(config, name)!r}.")


def fill_defaults(args, config):
    """
    Give arguments, in place, what a trainer of ours reads of them.

    Args:
        args ([`~trl.DPOConfig`] or [`~trl.experimental.online_dpo.OnlineDPOConfig`]): arguments, ours or TRL's.
        config (`type`): our configuration, whose defaults those of TRL get for what they lack.

    Raises:
        ValueError: kernels are asked for that cannot work, see [`check_kernels`].
    """
    for setting in fields(config):
        if not hasattr(args, setting.name):
            setattr(args, setting.name, setting.default)
    check_kernels(args)
    # The collators take the columns that they want of the rows, and samplers keep the others
    args.remove_unused_columns = False
