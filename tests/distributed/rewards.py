"""Trains tiny reward models, with the arguments of `train.py`."""

import faulthandler
import json
import os
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.state import AcceleratorState
from distributed.train import DEEPSPEED, dataset, spread_all, training_arguments
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, set_seed

from trl_mm import MMRewardConfig, MMRewardTrainer
from trl_mm.reward.measures import metrics_of


LOGGED = ("loss", "grad_norm", "accuracy", "margin", "mean_reward")


def train_reward(checkpoint, folder, num_images, lora=None, **settings):
    """
    Train for one epoch, or what is left of it, and evaluate on rows of which the last batch is not full.

    Args:
        checkpoint (`str`): folder of reward model and processor.
        folder (`str`): where the trained weights go.
        num_images (`list[int]`): number of images of each row.
        lora (`str`, *optional*): modules that get an adapter; `None` trains all weights.
        settings: settings of [`MMRewardConfig`].

    Returns:
        `dict[str, list]`: what is logged at each step, and what the evaluation measured.
    """
    args = spread_all(MMRewardConfig(**{**training_arguments(folder), "max_length": None, **settings}))
    rows, model = dataset(num_images), checkpoint
    if lora is not None:
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype="float32")
        set_seed(0)  # what adapters start from
    trainer = MMRewardTrainer(
        model,
        args=args,
        train_dataset=rows,
        eval_dataset={"five": rows.select(range(5))},
        peft_config=None if lora is None else LoraConfig(target_modules=lora, lora_alpha=64),
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    found = {name: [step[name] for step in steps] for name in LOGGED}
    # TRL's mean margin is one over batches, which are others for two processes
    metrics = trainer.evaluate()
    measured = metrics_of(trainer.evaluations["five"])
    assert len(measured) > 4
    found["evaluation"] = {name: metrics[f"eval_five_{name}"] for name in ("loss", *measured)}
    found["pairs"] = trainer.evaluations["five"]["num_pairs"]
    trainer.save_model(folder)
    return found


if __name__ == "__main__":
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    faulthandler.dump_traceback_later(seconds, exit=True)
    if DEEPSPEED:
        import deepspeed

        # Else it compiles an operation for inference first, and needs a compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    results = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        results[name] = train_reward(**case)
        AcceleratorState._reset_state()  # DeepSpeed's configuration belongs to one trainer
    if PartialState().is_main_process:
        (folder / "results.json").write_text(json.dumps(results))
    PartialState().wait_for_everyone()
    sys.stdout.flush()
    # A process that the interpreter takes down while gloo's threads still run may abort after all has gone well
    os._exit(0)
