"""Corrupted pairs of the Shapes world, in place of POVID's: an editor swaps names without a look at the image."""

import argparse
import json
import random
from pathlib import Path

from world import TYPES, sentence


def corrupted(rng, answer, share):
    """The answer with each named type replaced, with chance `share` and at least once, by one it does not name."""
    names = [text.removeprefix("There is a ") for text in answer.rstrip(".").split(". ")]
    swapped = {index for index in range(len(names)) if rng.random() < share} or {rng.randrange(len(names))}
    others = rng.sample([name for name in TYPES if name not in names], len(swapped))
    return " ".join(sentence(others.pop() if index in swapped else name) for index, name in enumerate(names))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=Path, required=True, help="captions.jsonl of a world")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file of the pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_rows", type=int, default=1600)
    parser.add_argument("--share", type=float, default=0.3, help="chance that a type is replaced")
    args = parser.parse_args()
    rng = random.Random(f"{args.seed} corrupt")
    rows = [json.loads(line) for line in args.captions.read_text().splitlines()[: args.max_rows]]
    for row in rows:
        answer = corrupted(rng, row["chosen"][0]["content"], args.share)
        row["rejected"] = [{"role": "assistant", "content": answer}]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
