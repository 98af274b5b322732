"""Corrupted pairs of the Shapes world, in place of POVID's: an editor exchanges names without a look at the image.

Names are exchanged for any others, or for those that the prior of text expects there. The places are the same for
both, so that pairs of both kinds differ in one thing.
"""

import argparse
import json
import random
from pathlib import Path

from world import TYPES, partner, sentence


def corrupted(rng, answer, share, by="chance"):
    """
    The answer with each named type exchanged, with chance `share` and at least once, by one that it does not name.

    Args:
        rng (`random.Random`): source of the places and names.
        answer (`str`): caption.
        share (`float`): chance that a type is exchanged.
        by (`str`, *optional*, defaults to `"chance"`): `"chance"` for any type, `"prior"` for the partner of the type
            before. Where there is none, or the answer names it already, it is any type, too.

    Returns:
        `str`
    """
    names = [text.removeprefix("There is a ") for text in answer.rstrip(".").split(". ")]
    exchanged = {index for index in range(len(names)) if rng.random() < share} or {rng.randrange(len(names))}
    others = rng.sample([name for name in TYPES if name not in names], len(exchanged))
    written = []
    for index, name in enumerate(names):
        if index in exchanged:
            name = others.pop()
            expected = partner(written[-1]) if by == "prior" and written else None
            if expected is not None and expected not in {*names, *written}:
                name = expected
        written.append(name)
    return " ".join(map(sentence, written))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=Path, required=True, help="captions.jsonl of a world")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file of the pairs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_rows", type=int, default=1600)
    parser.add_argument("--share", type=float, default=0.3, help="chance that a type is exchanged")
    parser.add_argument("--by", choices=["chance", "prior"], default="chance", help="what is written instead")
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.captions.read_text().splitlines()[: args.max_rows]]
    for row in rows:
        rng = random.Random(f"{args.seed} corrupt {row['row_id']}")
        answer = corrupted(rng, row["chosen"][0]["content"], args.share, args.by)
        row["rejected"] = [{"role": "assistant", "content": answer}]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
