"""Captions of images that no model is trained on, by the annotator of the training images, for held-out pairs."""

import argparse
import json
import random
from pathlib import Path

from world import CAPTION_PROMPTS, caption, make_parser, sft_row

from trl_mm.eval.objects import load_annotations


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", type=Path, required=True, help="folder of the world, beside which the file goes")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file of the captions")
    parser.add_argument("--split", default="validation", help="split whose images are described")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--caption_noise", type=float, default=make_parser().get_default("caption_noise"))
    args = parser.parse_args()
    rng = random.Random(f"{args.seed} held out")
    rows = []
    for image, objects in load_annotations(args.world / f"{args.split}.json").items():
        names = sorted(objects)  # a set has no order of its own
        path = (args.world / image).relative_to(args.output.parent).as_posix()
        row = sft_row(image, [path], rng.choice(CAPTION_PROMPTS), caption(rng, names, args.caption_noise))
        rows.append({**row, "objects": names})
    args.output.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
