"""The quickstart: from an SFT model to a measurably less hallucinating one, every step a command that a user can type.

python recipes/shapes/run.py            one seed, what is finished and intact is not done again
python recipes/shapes/run.py --study    several seeds and settings
"""

import argparse
from pathlib import Path

from pipeline import MODELS, quickstart_steps
from report import write_report
from steps import run_steps
from study import study


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/shapes"), help="folder of everything that is made")
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="default: 0, and 0 1 2 for the study")
    parser.add_argument("--study", action="store_true", help="several seeds, and a sweep on the validation images")
    args = parser.parse_args(argv)
    if args.study:
        study(args.runs, args.seeds or [0, 1, 2])
    else:
        seeds = args.seeds or [0]
        run_steps([step for seed in seeds for step in quickstart_steps(args.runs / f"seed{seed}", seed)])
        write_report(args.runs, seeds, MODELS)


if __name__ == "__main__":
    main()
