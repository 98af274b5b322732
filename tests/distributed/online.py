"""Online and Mixed-DPO of a tiny LLaVA-NeXT, for [`train`]'s processes."""

from distributed.train import dataset, initial_model, spread_all, training_arguments
from peft import LoraConfig

from trl_mm import MMOnlineDPOConfig, MMOnlineDPOTrainer


LOGGED = (
    "loss",
    "grad_norm",
    "rewards/margins",
    "objective/kl",
    "objective/scores",
    "judge/tie_rate",
    "offline_rate",
    "completions/mean_length",
)


def train_online(checkpoint, folder, num_images, rewarded, lora=None, **settings):
    """
    Train for one epoch on sampled answers and evaluate on the same rows.

    Args:
        checkpoint (`str`): folder of model and processor.
        folder (`str`): where the trained weights go.
        num_images (`list[int]`): number of images of each row.
        rewarded (`list[int]`): rows whose answers differ in their reward; those of the others are ties.
        lora (`str` or `list[str]`, *optional*): modules that get an adapter; `None` trains all weights.
        settings: settings of [`MMOnlineDPOConfig`].

    Returns:
        `dict[str, list]`: what is logged at each step, and the evaluation's loss.
    """

    def reward(completion_ids, row_id, **columns):
        return [
            float(sum(ids) % 97) if int(row) in rewarded else 0.0
            for ids, row in zip(completion_ids, row_id, strict=True)
        ]

    args = MMOnlineDPOConfig(
        **{
            **training_arguments(folder),
            "max_new_tokens": 8,
            "temperature": 1.0,
            # Many EOS tokens, so that answers differ in length
            "generation_kwargs": {"eos_token_id": list(range(1, 360, 5))},
            **settings,
        }
    )
    args = spread_all(args)
    trainer = MMOnlineDPOTrainer(
        initial_model(checkpoint, lora),
        reward_funcs=reward,
        args=args,
        train_dataset=dataset(num_images),
        eval_dataset=dataset(num_images),
        peft_config=None if lora is None else LoraConfig(target_modules=lora, lora_alpha=64),
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    # What no row of a step has is not logged
    found = {name: [step.get(name, 0.0) for step in steps] for name in LOGGED}
    found["eval_loss"] = [trainer.evaluate()["eval_loss"]]
    trainer.save_model(folder)
    return found
