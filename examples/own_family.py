# /// script
# requires-python = ">=3.11"
# dependencies = ["trl-mm"]
# ///
"""
A model family that trl-mm does not know yet: one line in its table says what the projector is called, and that a
prompt may be computed once for both answers. A check compares the losses with those of TRL's layout on your rows.

python examples/own_family.py --model me/my-vlm --projector multi_modal_projector --dataset pairs
"""

import argparse

from transformers import AutoConfig

from trl_mm import MMDPOConfig, MMDPOTrainer, load_preferences
from trl_mm.tokens.families import FAMILIES, Family


def main(argv=None, **settings):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--projector", nargs="+", required=True, help="all between vision tower and language model")
    parser.add_argument("--dataset", required=True, help="rows with images, prompt, chosen and rejected")
    parser.add_argument("--output_dir", default="runs/own_family")
    args = parser.parse_args(argv)

    kind = AutoConfig.from_pretrained(args.model).model_type
    # "causal": plain causal attention, one position per token. CONTRIBUTING has the other kinds
    FAMILIES[kind] = Family(tuple(args.projector), prefix_inputs="causal")

    rows, losses = load_preferences(args.dataset), {}
    for shares in (True, False):
        trainer = MMDPOTrainer(
            args.model,
            args=MMDPOConfig(output_dir=args.output_dir, prefix_sharing=shares, **settings),
            train_dataset=rows,
            eval_dataset=rows,
        )
        losses[shares] = trainer.evaluate()["eval_loss"]
    print(f"loss with shared prompts {losses[True]:.6f}, in TRL's layout {losses[False]:.6f}")
    return losses


if __name__ == "__main__":
    main()
