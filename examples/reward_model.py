# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm"]
# ///
"""
A reward model that sees the images, whether it looks at them, and two answers that it scores.

python examples/reward_model.py --dataset data/vlfeedback/train --held_out data/vlfeedback/test
"""

import argparse

from trl_mm import MMRewardConfig, MMRewardTrainer, RewardModel, load_preferences
from trl_mm.reward.blind import with_exchanged_images


def main(argv=None, **settings):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-v1.6-vicuna-7b-hf")
    parser.add_argument("--dataset", required=True, help="rows with images, prompt, chosen and rejected")
    parser.add_argument("--held_out", required=True, help="the same, with other images")
    parser.add_argument("--output_dir", default="runs/reward")
    args = parser.parse_args(argv)

    held_out = load_preferences(args.held_out)
    trainer = MMRewardTrainer(
        args.model,
        args=MMRewardConfig(output_dir=args.output_dir, learning_rate=2e-5, **settings),
        train_dataset=load_preferences(args.dataset),
        eval_dataset={"seeing": held_out, "blind": with_exchanged_images(held_out)},
    )
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate()
    # As good without the right image: it prefers texts, by their length or their author, and sees no hallucination
    print(f"accuracy {metrics['eval_seeing_accuracy']:.2f}, blind {metrics['eval_blind_accuracy']:.2f}")

    reward = RewardModel(args.output_dir)  # a reward function as TRL calls them; `RewardJudge(reward)` is a judge
    row = held_out[0]
    scores = reward([row["prompt"]] * 2, [row["chosen"], row["rejected"]], images=[row["images"]] * 2)
    print(f"rewards of the first pair: {scores}")
    return metrics, scores


if __name__ == "__main__":
    main()
