"""Sampled answers with their verdicts, to look at: on the console, in files, in a tracker with images."""

from pathlib import Path

import pandas as pd
from trl.trainer.utils import print_prompt_completions_sample

from ...data.rows import message_text


class CompletionsLog:
    """
    Keeps the answers of the last step until they are written.

    Args:
        trainer ([`MMOnlineDPOTrainer`]): the trainer. Only its main process writes, and only what it sampled itself.
    """

    def __init__(self, trainer):
        self.trainer = trainer
        self.rows = []

    def see(self, pairs):
        """Take the sampled pairs of a batch ([`OnPolicySampler`]); those of an earlier step go."""
        step = self.trainer.state.global_step
        if self.rows and self.rows[0]["step"] != step:
            self.rows = []
        for pair in pairs:
            verdict = pair["verdict"]
            choice = None if verdict is None else verdict.choice
            texts = [message_text(pair[name][0]) for name in ("chosen", "rejected")]
            first, second = reversed(texts) if choice == 1 else texts
            note = "failed" if verdict is None else verdict.text if self.trainer.judge is None else verdict.outcome
            self.rows.append(
                {
                    "step": step,
                    "row_id": pair["row_id"],
                    "prompt": "\n".join(message_text(message) for message in pair["prompt"]),
                    "first": first,
                    "second": second,
                    "chosen": {0: "first", 1: "second", None: "none"}[choice],
                    "note": note,
                    "images": pair["images"],
                }
            )

    def write(self):
        """Print the answers, write them to `completions` in the output directory and send them to the trackers."""
        rows, self.rows = self.rows, []
        if not rows or not self.trainer.accelerator.is_main_process:
            return
        step = rows[0]["step"]
        count = self.trainer.args.num_completions_to_print
        printed = rows if count is None else rows[: (count + 1) // 2]  # both answers to a prompt stay together
        print_prompt_completions_sample(
            [row["prompt"] for row in printed for _ in range(2)],
            [row[name] for row in printed for name in ("first", "second")],
            {},
            None,
            step,
            extra={
                "verdict": [
                    "chosen" if row["chosen"] == name else row["note"] if row["chosen"] == "none" else ""
                    for row in printed
                    for name in ("first", "second")
                ]
            },
        )
        table = pd.DataFrame([{name: value for name, value in row.items() if name != "images"} for row in rows])
        folder = Path(self.trainer.args.output_dir) / "completions"
        folder.mkdir(parents=True, exist_ok=True)
        table.to_parquet(folder / f"completions_{step:05d}.parquet")
        for backend in trackers(self.trainer.args.report_to):
            pictures = [[backend.Image(image) for image in row["images"]] for row in rows]
            backend.log({"completions": backend.Table(dataframe=table.assign(image=pictures))})


def trackers(report_to):
    """Modules of the trackers among `report_to` that show tables with images."""
    found = []
    if "wandb" in report_to:
        import wandb

        if wandb.run is not None:
            found.append(wandb)
    if "trackio" in report_to:
        import trackio

        found.append(trackio)
    return found
