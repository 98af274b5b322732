# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm[bdhs]"]
# ///
"""
Make preference pairs once, keep them on disk, and push them to the Hub with a card that says how they were made.

python examples/pairs_to_hub.py --dataset sft.jsonl --image_folder coco/train2014 --repo_id me/pairs
"""

import argparse

from transformers import AutoModelForImageTextToText, AutoProcessor

from trl_mm import BDHSConfig, BDHSSampler, load_preferences, push_preferences


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llava-hf/llava-v1.6-vicuna-7b-hf")
    parser.add_argument("--dataset", required=True, help="rows with images, prompt and chosen")
    parser.add_argument("--image_folder")
    parser.add_argument("--similarity", default="sentence-transformers/all-mpnet-base-v2", help="lexical: no model")
    parser.add_argument("--repo_id", help="dataset on the Hub; without it nothing is pushed")
    args = parser.parse_args(argv)

    # For many rows, several processes, or a run that may be killed: `trl-mm bdhs`, which does the same
    rows = load_preferences(args.dataset, image_folder=args.image_folder, needs=("images", "prompt", "chosen"))
    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype="auto", device_map="auto")
    sampler = BDHSSampler(BDHSConfig(similarity=args.similarity), AutoProcessor.from_pretrained(args.model))
    pairs = sampler(model, list(rows))

    for pair in pairs[:3]:
        print(f"chosen:   {pair['chosen'][0]['content']}")
        print(f"rejected: {pair['rejected'][0]['content']} (similarity {pair['bdhs_similarity']:.2f})\n")
    if args.repo_id:
        print(push_preferences(pairs, args.repo_id, private=True))
    return pairs


if __name__ == "__main__":
    main()
