# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm"]
# ///
"""
RLOO with rewards that can be checked: yes or no against the row's answer, and a bound on the length.

python examples/rloo.py --dataset questions.jsonl
"""

import argparse

from peft import LoraConfig

from trl_mm import MMRLOOConfig, MMRLOOTrainer, load_preferences
from trl_mm.reward.verifiable import LengthReward, YesNoReward


def main(argv=None, **settings):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-v1.6-vicuna-7b-hf")
    parser.add_argument("--dataset", required=True, help="rows with images, prompt and answer, yes or no")
    parser.add_argument("--reward_model", help="one that was trained by examples/reward_model.py, in addition")
    parser.add_argument("--output_dir", default="runs/rloo")
    args = parser.parse_args(argv)

    defaults = {"num_generations": 4, "per_device_train_batch_size": 4, "beta": 0.4, "max_completion_length": 32}
    trainer = MMRLOOTrainer(
        args.model,
        # Functions as TRL calls them; the path of a reward model is one that sees the images
        reward_funcs=[YesNoReward(), LengthReward(limit=20), *([args.reward_model] if args.reward_model else [])],
        args=MMRLOOConfig(output_dir=args.output_dir, **{**defaults, **settings}),
        train_dataset=load_preferences(args.dataset, needs=("images", "prompt")),
        peft_config=LoraConfig(r=16, lora_alpha=32),
    )
    trainer.train()
    trainer.save_model()
    return trainer.state.log_history


if __name__ == "__main__":
    main()
