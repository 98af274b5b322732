# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm[eval]"]
# ///
"""
What an adapter did to hallucination: it and its base are asked about the same images, and compared on them.

python examples/evaluate_adapter.py --adapter runs/dpo --annotations instances_val2014.json --images coco/val2014
"""

import argparse
import json
from pathlib import Path

from trl_mm.cli.main import main as trl_mm


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="llava-hf/llava-v1.6-vicuna-7b-hf")
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--annotations", required=True, help="COCO-style JSON")
    parser.add_argument("--images", required=True, help="folder of the images")
    parser.add_argument("--limit", default="200", help="images of each benchmark")
    parser.add_argument("--output_dir", default="evaluated")
    args, others = parser.parse_known_args(argv)  # what else is given is for `trl-mm eval`

    status = trl_mm(
        ["eval", "--models", f"base={args.base}", f"aligned={args.adapter}", "--output_dir", args.output_dir]
        + ["--benchmarks", "chair", "pope", "--annotations", args.annotations, "--image_folder", args.images]
        + ["--limit", args.limit, *others]
    )
    if status:
        raise SystemExit(status)
    results = json.loads(Path(args.output_dir, "results.json").read_text(encoding="utf-8"))
    print(f"Tables and answers: {args.output_dir}/report.html")
    return results


if __name__ == "__main__":
    main()
