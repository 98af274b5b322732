"""Supervised fine-tuning in the Shapes world by TRL's `SFTTrainer`: the base model, and the control of the study.

python recipes/shapes/sft.py --config recipes/shapes/base.yaml
"""

from dataclasses import dataclass, field

from model import make_model, make_processor
from transformers import AutoModelForImageTextToText, AutoProcessor, set_seed
from trl import SFTConfig, SFTTrainer, TrlParser

from trl_mm import load_preferences


@dataclass(kw_only=True)
class SFTArguments:
    """
    Args:
        dataset_name (`str`): rows with `images`, `prompt` and `chosen`.
        model_name_or_path (`str`, *optional*): model to go on with; without it, a new one is made.
    """

    dataset_name: str = field(metadata={"help": "Rows with images, prompt and chosen."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "Model to go on with; else a new one."})


def main(argv=None):
    args, training_args = TrlParser((SFTArguments, SFTConfig)).parse_args_and_config(argv)
    if args.model_name_or_path:
        processor = AutoProcessor.from_pretrained(args.model_name_or_path)
        model = AutoModelForImageTextToText.from_pretrained(args.model_name_or_path)
    else:
        processor = make_processor()
        model = make_model(processor, training_args.seed)
    set_seed(training_args.seed)
    rows = load_preferences(args.dataset_name, needs=("images", "prompt", "chosen"))
    rows = rows.select_columns(["images", "prompt", "chosen"]).rename_column("chosen", "completion")
    trainer = SFTTrainer(model, args=training_args, train_dataset=rows, processing_class=processor)
    trainer.train()
    trainer.save_model()
    trainer.save_state()


if __name__ == "__main__":
    main()
