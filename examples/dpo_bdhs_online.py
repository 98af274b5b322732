# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm[bdhs]"]
# ///
"""
DPO without preference data: the rejected answers are sampled from the model itself at each step (Online-BDHS).

python examples/dpo_bdhs_online.py --dataset sft.jsonl --image_folder coco/train2014
"""

import argparse

from peft import LoraConfig

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer, load_preferences


def main(argv=None, **settings):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-v1.6-vicuna-7b-hf")
    parser.add_argument("--dataset", required=True, help="rows with images, prompt and chosen")
    parser.add_argument("--image_folder")
    parser.add_argument("--output_dir", default="runs/bdhs_online")
    parser.add_argument("--similarity", default="sentence-transformers/all-mpnet-base-v2", help="lexical: no model")
    args = parser.parse_args(argv)

    bdhs = BDHSDataGenerator(
        BDHSConfig(mask_threshold=0.99, similarity=args.similarity),
        online=True,
        save_to=f"{args.output_dir}/pairs",  # what was sampled at each step, to look at: `trl-mm report`
    )
    trainer = MMDPOTrainer(
        args.model,
        args=MMDPOConfig(output_dir=args.output_dir, learning_rate=5e-6, **settings),
        train_dataset=load_preferences(
            args.dataset, image_folder=args.image_folder, needs=("images", "prompt", "chosen")
        ),
        peft_config=LoraConfig(r=128, lora_alpha=256),  # on the language model only, where no targets are named
        callbacks=[bdhs],
    )
    trainer.train()
    trainer.save_model()
    print(f"Adapter in {args.output_dir}; the last log: {trainer.state.log_history[-1]}")


if __name__ == "__main__":
    main()
