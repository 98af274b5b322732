"""A reward model as the judge of a command."""


def reward_judge(
    model,
    *,
    batch_size=8,
    max_length=None,
    dtype="auto",
    device=None,
    revision="main",
    attn_implementation=None,
    trust_remote_code=False,
    system_prompt=None,
):
    """
    A [`RewardJudge`] that compares the scores of a reward model; arguments as in [`PairwiseVLMJudge`].

    Raises:
        ValueError: what [`RewardModel`] refuses, or its chat template takes no system message.
    """
    from accelerate import PartialState

    from ..judges.reward import RewardJudge
    from ..reward.scorer import RewardModel, check_reward_model
    from ..tokens.chat_template import with_system_prompt
    from ..tokens.processor import vision_processor_of

    source = {"revision": revision, "trust_remote_code": trust_remote_code}
    check_reward_model(model, **source)
    scorer = RewardModel(
        model,
        with_system_prompt(vision_processor_of(model, "The reward model", **source), system_prompt),
        batch_size=batch_size,
        max_length=max_length,
        device=PartialState().device if device is None else device,
        dtype=dtype,
        attn_implementation=attn_implementation,
        **source,
    )
    return RewardJudge(scorer)
