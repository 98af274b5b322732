"""What trainers are given in tests, and what they log."""


class FirstIsBetter:
    """A judge of two answers."""

    def judge(self, prompts, images, answer_pairs):
        return [0] * len(answer_pairs)


def losses(trainer):
    """Train, and return the loss of every step."""
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
