"""Trains a tiny LLaVA-NeXT as each case of a JSON file says, one after another: what `accelerate launch` starts.

`accelerate launch … tests/distributed/train.py folder seconds` reads `folder/cases.json`, writes `folder/results.json`
and the weights of each case, and ends itself after `seconds` with a traceback of where it hangs.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.state import AcceleratorState
from peft import LoraConfig
from support.fsdp_on_cpus import allow_fsdp_on_cpus
from support.rows import image_dataset, said
from support.tiny import tiny_row
from transformers import AutoModelForImageTextToText

from trl_mm import BDHSConfig, BDHSDataGenerator, BenchmarkCallback, MMDPOConfig, MMDPOTrainer
from trl_mm.data.loading import load_preferences
from trl_mm.eval.pope import PopeBenchmark


BATCH_SIZE = 2  # rows of all processes together
NUM_PROCESSES = int(os.environ.get("WORLD_SIZE", 1))
DEEPSPEED = "ACCELERATE_USE_DEEPSPEED" in os.environ
# Some rows are accepted at once, others take all attempts, so that processes finish at different times
BDHS = {
    "similarity": "lexical",
    "similarity_threshold": 0.35,
    "mask_threshold": 0.5,
    "max_attempts": 3,
    "max_sentence_tokens": 4,
    "max_answer_tokens": 8,
}
LOGGED = ("loss", "grad_norm", "rewards/margins", "logps/chosen")


def dataset(num_images):
    """Rows with as many images each as `num_images` says."""
    rows = []
    for number, count in enumerate(num_images):
        row = tiny_row(number, "There is a red circle. " * (1 + number % 3), size=(30 + 10 * number, 40))
        rejected = said("There is a dog." * (1 + (number + 1) % 3))
        rows.append({**row, "images": row["images"] * count, "rejected": rejected})
    return image_dataset(rows)


def made_pairs(folder, logged):
    """Pairs in an order that does not depend on who made them, and how BDHS fared in the first step."""
    pairs = [{**row, "images": len(row["images"])} for row in load_preferences(folder, check_images=False)]
    names = [name for name in logged if name.startswith("bdhs/") and name != "bdhs/answers_per_second"]
    assert logged["bdhs/answers_per_second"] > 0
    return {
        "pairs": sorted(json.dumps(pair, sort_keys=True) for pair in pairs),
        **{name: [logged[name]] for name in sorted(names)},
    }


def training_arguments(folder):
    """Settings (`dict`) of all cases, for any configuration of a trainer."""
    batch_size = BATCH_SIZE // NUM_PROCESSES
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch_size,
        "per_device_eval_batch_size": batch_size,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "optim": "sgd",  # AdamW makes a step of what is only rounding
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": False,
        # DeepSpeed finds the CPU by itself, and with `use_cpu` accelerate would not start it
        "use_cpu": not DEEPSPEED,
        "ddp_backend": "gloo" if NUM_PROCESSES > 1 else None,
    }


def spread_all(args):
    """Training arguments with which ZeRO-3 spreads small weights too: of a tiny model it would spread none."""
    if DEEPSPEED:
        config = args.deepspeed_plugin.deepspeed_config
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        config["zero_force_ds_cpu_optimizer"] = False  # with offload DeepSpeed would compile an Adam of its own
    return args


def initial_model(checkpoint, lora):
    # Not by its name: how ZeRO-3 loads it would move the random numbers that adapters start from
    return checkpoint if lora is None else AutoModelForImageTextToText.from_pretrained(checkpoint, dtype="float32")


def generator(pairs, mode="attention", **options):
    """What makes pairs, and where they go; distorted answers are no pairs."""
    save_to = None if mode == "povid" else str(pairs)
    return BDHSDataGenerator(BDHSConfig(**BDHS, mode=mode), save_to=save_to, **options)


class KeepsAnswers(PopeBenchmark):
    """POPE, with what is answered."""

    def score(self, questions, answers, *, seed):
        self.answers = [*getattr(self, "answers", []), list(answers)]
        return super().score(questions, answers, seed=seed)


def benchmarks(folder, num_questions):
    """A benchmark with so many questions, one an image; and where the images are."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"image": f"{number}.png", "text": "Is it red?", "label": "yes"} for number in range(num_questions)]
    if PartialState().is_main_process:
        for number in range(num_questions):
            tiny_row(number, size=(30 + 10 * number, 40))["images"][0].save(folder / f"{number}.png")
        (folder / "pope.json").write_text(json.dumps(rows))
    PartialState().wait_for_everyone()
    return KeepsAnswers(pope_files=[str(folder / "pope.json")])


def train(checkpoint, folder, num_images, lora=None, bdhs=None, measured=None, **settings):
    """
    Train for one epoch and evaluate on the same rows.

    Args:
        checkpoint (`str`): folder of model and processor.
        folder (`str`): where the trained weights go.
        num_images (`list[int]`): number of images of each row.
        lora (`str` or `list[str]`, *optional*): modules that get an adapter; `None` trains all weights.
        bdhs (`dict`, *optional*): arguments of the [`BDHSDataGenerator`] that makes pairs, and its mode; `None` takes
            those stored.
        measured (`list[int]`, *optional*): numbers of questions of benchmarks that are asked after each second step.
        settings: settings of [`MMDPOConfig`].

    Returns:
        `dict[str, list]`: what is logged at each step, the evaluation's loss, and the pairs that were made.
    """
    args = spread_all(MMDPOConfig(**{**training_arguments(folder), **settings}))
    rows = dataset(num_images)
    pairs = Path(folder) / "pairs"
    trainer = MMDPOTrainer(
        initial_model(checkpoint, lora),
        args=args,
        train_dataset=rows,
        eval_dataset=rows if bdhs is None or args.precompute_ref_log_probs else rows.remove_columns("rejected"),
        callbacks=None if bdhs is None else [generator(pairs, **bdhs)],
        peft_config=None if lora is None else LoraConfig(target_modules=lora, lora_alpha=64),
    )
    asked = {str(count): benchmarks(Path(folder) / f"pope{count}", count) for count in measured or ()}
    for count, benchmark in asked.items():
        images = Path(folder) / f"pope{count}"
        trainer.add_callback(
            BenchmarkCallback(trainer, {"pope": benchmark}, image_folder=images, steps=2, max_new_tokens=6)
        )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    found = {name: [step[name] for step in steps] for name in LOGGED}
    if pairs.exists():
        found.update(made_pairs(pairs, steps[0]))
    if asked:
        found["answers"] = [benchmark.answers for benchmark in asked.values()]
    found["eval_loss"] = [trainer.evaluate()["eval_loss"]]
    trainer.save_model(folder)
    return found


if __name__ == "__main__":
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    faulthandler.dump_traceback_later(seconds, exit=True)
    from distributed.online import train_online  # which imports this file

    if DEEPSPEED:
        import deepspeed

        # Else it compiles an operation for inference first, and needs a compiler
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    allow_fsdp_on_cpus()
    results = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        results[name] = (train_online if "rewarded" in case else train)(**case)
        AcceleratorState._reset_state()  # DeepSpeed's configuration belongs to one trainer
    if PartialState().is_main_process:
        (folder / "results.json").write_text(json.dumps(results))
    PartialState().wait_for_everyone()
    sys.stdout.flush()
    # A process that the interpreter takes down while gloo's threads still run may abort after all has gone well
    os._exit(0)
