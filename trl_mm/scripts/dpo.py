"""`trl-mm dpo`: DPO on image-text pairs, from disk or made by BDHS on the way."""

from dataclasses import dataclass, field
from pathlib import Path

from .models import check_model_path


@dataclass(kw_only=True)
class DPOArguments:
    """
    Arguments of `trl-mm dpo` besides those of [`MMDPOConfig`] and [`~trl.ModelConfig`].

    Args:
        dataset_name (`str`): folder, file or Hub id of the rows.
        dataset_train_split (`str`, *optional*, defaults to `"train"`): split to train on.
        dataset_test_split (`str`, *optional*): split to evaluate on, if any.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data.
        converter (`str`, *optional*): what the rows are written like, if not in the row format: `"llava_instruct"` for
            conversations with `from` and `value`.
        bdhs (`dict`, *optional*): settings of [`BDHSConfig`]; rows are then SFT rows and pairs are made on the way.
        bdhs_online (`bool`, *optional*, defaults to `True`): with `bdhs`, pairs from the current policy at each step;
            otherwise once before training.
        bdhs_rejected_weight (`float`, *optional*): with `bdhs`, weight of the `rejected` that a row has already beside
            the one that is made (γ of eq. 5, 0.5 in the paper); without it, it is not looked at.
        accelerate_config (`str`, *optional*): name or path of an accelerate config; the command line launches with it.
    """

    dataset_name: str = field(metadata={"help": "Folder, file or Hub id of the rows."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str | None = field(default=None, metadata={"help": "Split to evaluate on, if any."})
    image_folder: str | None = field(default=None, metadata={"help": "Folder that image paths are relative to."})
    converter: str | None = field(
        default=None, metadata={"help": "What rows in another format are written like: llava_instruct."}
    )
    bdhs: dict | str | None = field(
        default=None, metadata={"help": "Settings of BDHS, as a mapping; rows are then SFT rows."}
    )
    bdhs_online: bool = field(
        default=True, metadata={"help": "With `bdhs`: pairs from the current policy at each step, or once before."}
    )
    bdhs_rejected_weight: float | None = field(
        default=None, metadata={"help": "With `bdhs`: weight of the `rejected` that a row has already (eq. 5)."}
    )
    accelerate_config: str | None = field(
        default=None, metadata={"help": "Name or path of an accelerate config to launch with."}
    )


def make_parser():
    from trl import ModelConfig, TrlParser

    from ..trainer.dpo_config import MMDPOConfig

    return TrlParser((DPOArguments, MMDPOConfig, ModelConfig), prog="trl-mm dpo")


def main(argv=None):
    args, training_args, model_args = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    check_model_path(model_args.model_name_or_path)
    check_output(training_args.output_dir, model_args.use_peft)

    from trl import get_peft_config, get_quantization_config

    from ..bdhs.callback import BDHSDataGenerator
    from ..data.converters import find_converter
    from ..data.loading import BAD_ROWS, load_preferences
    from ..trainer.dpo_trainer import MMDPOTrainer
    from ..trainer.parameter_groups import trained_parts

    callbacks = []
    if args.bdhs is not None:
        callbacks.append(
            BDHSDataGenerator(
                bdhs_config(args.bdhs), online=args.bdhs_online, rejected_weight=args.bdhs_rejected_weight
            )
        )
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **(training_args.model_init_kwargs or {}),
    }

    def load(split):
        return load_preferences(
            args.dataset_name,
            converter=find_converter(args.converter),
            split=split,
            image_folder=args.image_folder,
            needs=callbacks[0].needs if callbacks else ("images", "prompt", "chosen", "rejected"),
            on_bad_image=training_args.on_bad_image,
            check_images=training_args.check_images,
            bad_rows_file=Path(training_args.output_dir)
            / (BAD_ROWS if split == args.dataset_train_split else f"{split}_{BAD_ROWS}"),
        )

    train_dataset = load(args.dataset_train_split)
    eval_dataset = load(args.dataset_test_split) if args.dataset_test_split else None
    training_args.check_images = False  # `load_preferences` has decoded every image once
    trainer = MMDPOTrainer(
        model_args.model_name_or_path,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        callbacks=callbacks,
        quantization_config=get_quantization_config(model_args),
        peft_config=get_peft_config(model_args),
    )
    for report in trainer.fit_report.values():
        trainer.accelerator.print(report)
    trainer.accelerator.print(trained_parts(trainer.model, training_args))
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model(training_args.output_dir)
    trainer.save_state()
    trainer.accelerator.print(f"Model in {training_args.output_dir}")
    if training_args.push_to_hub:
        trainer.push_to_hub(dataset_name=args.dataset_name)


def check_output(folder, use_peft):
    """Refuse to put an adapter beside a full model or the other way round: nobody could tell which is loaded."""
    other = "model.safetensors" if use_peft else "adapter_model.safetensors"
    if (Path(folder) / other).exists():
        kind = "a full model" if use_peft else "an adapter"
        raise ValueError(
            f"`output_dir` ({folder}) holds {other}, {kind} of another run. Use another folder, or delete this one."
        )


def bdhs_config(settings):
    """[`BDHSConfig`] from a mapping, or its JSON; an unknown key is an error that names the nearest known one."""
    import difflib
    import json
    from dataclasses import fields

    from ..bdhs.config import BDHSConfig

    if isinstance(settings, str):  # from the command line
        try:
            settings = json.loads(settings)
        except ValueError as error:
            raise ValueError(
                f"`bdhs` ({settings}) is no JSON: {error}. Write '{{\"mask_threshold\": 0.99}}'."
            ) from error
    if not isinstance(settings, dict):
        raise ValueError(f"`bdhs` must be a mapping of settings, got {settings!r}.")
    known = [field.name for field in fields(BDHSConfig)]
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            raise ValueError(f"`bdhs` has no setting {key!r}.{hint} Known: {', '.join(known)}.")
    return BDHSConfig(**settings)


if __name__ == "__main__":
    main()
