"""Settings that `MMPPOTrainer` adds to those of `MMRLOOTrainer`."""

from dataclasses import dataclass

from .rloo_config import MMRLOOConfig


TOO_FEW = "at least 2 generations per prompt"  # as TRL says it


@dataclass
class MMPPOConfig(MMRLOOConfig):
    """
    Configuration of [`MMPPOTrainer`]. The only changes w.r.t. [`MMRLOOConfig`] are the arguments and defaults below;
    those that are new have the names that they had in TRL's `PPOConfig`. `beta` is the coefficient of the KL
    divergence in the rewards of tokens, `epsilon` how far ratios of tokens may go; `normalize_advantages` has no
    effect, as advantages are always whitened.

    Args:
        learning_rate (`float`, *optional*, defaults to `1.41e-5`):
            Learning rate of policy and value model; that of arXiv 2407.02477.
        num_generations (`int`, *optional*, defaults to `1`):
            Answers to each prompt. PPO compares an answer with its value, so one will do.
        num_iterations (`int`, *optional*, defaults to `4`):
            Passes over the answers before new ones are sampled; `num_ppo_epochs` of TRL's `PPOConfig`. Its
            `num_mini_batches` is `steps_per_generation` over `gradient_accumulation_steps`.
        cliprange_value (`float`, *optional*, defaults to `0.2`):
            How far a value may go from the one that it was when the answer was sampled.
        vf_coef (`float`, *optional*, defaults to `0.1`):
            Weight of the loss of values.
        gamma (`float`, *optional*, defaults to `1.0`):
            Discount of later rewards, for each token.
        lam (`float`, *optional*, defaults to `0.95`):
            λ of generalized advantages: 1 compares the return with the value, 0 looks one token ahead.
        whiten_rewards (`bool`, *optional*, defaults to `False`):
            Whether to divide rewards of tokens by their standard deviation; their mean stays.
        value_adapter (`str`, *optional*):
            Folder or id of LoRA adapters of a reward model on the same base, which the value model begins from, as in
            LLaVA-RLHF. By default it begins with new adapters, and predicts 0.
    """

    learning_rate: float = 1.41e-5
    num_generations: int | None = 1
    num_iterations: int = 4
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    gamma: float = 1.0
    lam: float = 0.95
    whiten_rewards: bool = False
    value_adapter: str | None = None

    def __post_init__(self) -> None:
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], got {getattr(self, name)}.")
        if self.cliprange_value <= 0:
            raise ValueError(f"`cliprange_value` must be above 0, got {self.cliprange_value}.")
        if self.vf_coef < 0:
            raise ValueError(f"`vf_coef` must be 0 or more, got {self.vf_coef}.")
        if self.num_generations is None or self.num_generations < 1:
            raise ValueError(f"`num_generations` must be at least 1, got {self.num_generations}.")
        try:
            super().__post_init__()
        except ValueError as error:
            # TRL's last check: RLOO compares answers to one prompt, PPO compares with its value model
            if self.num_generations != 1 or TOO_FEW not in str(error):
                raise
