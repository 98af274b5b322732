"""Two trainings that have to stop, in each process of a launch: `stopping.py folder seconds`.

Each process writes what stopped it into `folder/RANK.json`.
"""

import faulthandler
import json
import os
import sys
from pathlib import Path

import torch
from distributed.train import NUM_PROCESSES, dataset, training_arguments
from transformers import TrainerCallback

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.data.protocols import Verdict


RANK = int(os.environ.get("RANK", 0))
ROWS = [1] * 8


class Silent:
    """Gives a verdict in one process only, and from the third step on in none."""

    calls = 0

    def judge(self, prompts, images, answer_pairs):
        raise AssertionError("`verdicts` tells more")

    def verdicts(self, prompts, images, answer_pairs):
        self.calls += 1
        clear = RANK == 1 and self.calls < 3
        return [Verdict(0, "clear") if clear else Verdict(None, "invalid", f"of {RANK}") for _ in answer_pairs]


class Breaks(TrainerCallback):
    """Makes a weight of the last process NaN before the second step."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 1 and RANK == NUM_PROCESSES - 1:
            weight = next(p for p in model.parameters() if p.requires_grad)
            with torch.no_grad():
                weight.view(-1)[0] = float("nan")


def message(trainer):
    try:
        trainer.train()
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    faulthandler.dump_traceback_later(seconds, exit=True)
    checkpoint, settings = str(folder / "model"), training_arguments(str(folder / "out"))
    online = MMOnlineDPOConfig(**settings, max_new_tokens=8, temperature=1.0, max_steps_without_verdict=2)
    found = {
        "nan": message(
            MMDPOTrainer(checkpoint, args=MMDPOConfig(**settings), train_dataset=dataset(ROWS), callbacks=[Breaks()])
        ),
        "judge": message(MMOnlineDPOTrainer(checkpoint, judge=Silent(), args=online, train_dataset=dataset(ROWS))),
    }
    (folder / f"{RANK}.json").write_text(json.dumps(found))
    sys.stdout.flush()
    torch.distributed.barrier()
    os._exit(0)  # as in train.py
