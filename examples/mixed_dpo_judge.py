# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm"]
# ///
"""
Mixed-DPO: half of the rows train on their stored pair, half on two sampled answers that a judge compares. Any object
with a method `judge(prompts, images, answer_pairs)` is a judge.

python examples/mixed_dpo_judge.py --dataset pairs --judge llava-hf/llava-v1.6-34b-hf
"""

import argparse

from peft import LoraConfig

from trl_mm import MMOnlineDPOConfig, MMOnlineDPOTrainer, PairwiseVLMJudge, load_preferences


class ShorterIsBetter:
    """Prefers the answer of fewer words; equal ones are a tie (`None`), which trains nothing."""

    def judge(self, prompts, images, answer_pairs):
        lengths = [(len(first.split()), len(second.split())) for first, second in answer_pairs]
        return [None if first == second else int(second < first) for first, second in lengths]


def main(argv=None, **settings):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-v1.6-vicuna-7b-hf")
    parser.add_argument("--judge", help="a vision-language model; without it, the judge of this file")
    parser.add_argument("--dataset", required=True, help="rows with images, prompt, chosen and rejected")
    parser.add_argument("--image_folder")
    parser.add_argument("--output_dir", default="runs/mixed_dpo")
    args = parser.parse_args(argv)

    trainer = MMOnlineDPOTrainer(
        args.model,
        judge=PairwiseVLMJudge(args.judge, load_in_4bit=True) if args.judge else ShorterIsBetter(),
        args=MMOnlineDPOConfig(output_dir=args.output_dir, offline_probability=0.5, learning_rate=5e-6, **settings),
        train_dataset=load_preferences(args.dataset, image_folder=args.image_folder),
        peft_config=LoraConfig(r=128, lora_alpha=256),
    )
    trainer.train()
    trainer.save_model()
    print(f"Adapter in {args.output_dir}; the last log: {trainer.state.log_history[-1]}")


if __name__ == "__main__":
    main()
