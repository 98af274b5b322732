"""`trl-mm online-dpo`: two sampled answers to each prompt, ranked by a judge or by rewards; Mixed-DPO too."""

from dataclasses import dataclass

from .dry_run import dry_run
from .preflight import check_attention, check_training, need_package
from .reward_functions import check_columns, reward_functions
from .training import (
    TrainingDataArguments,
    as_mapping,
    check_keys,
    load_splits,
    peft_config,
    start,
    train_and_save,
)
from .training_benchmarks import add_benchmarks, training_benchmarks


@dataclass(kw_only=True)
class OnlineDPOArguments(TrainingDataArguments):
    """
    Arguments of `trl-mm online-dpo` besides those of [`TrainingDataArguments`], [`MMOnlineDPOConfig`] and
    [`~trl.ModelConfig`].

    Args:
        judge (`dict`, *optional*): who ranks the answers: `kind`, `"vlm"` ([`PairwiseVLMJudge`]), `"remote"`
            ([`RemoteJudge`]) or `"reward"` (a reward model of `trl-mm reward`), and its arguments, such as
            `{"kind": "vlm", "model": "llava-hf/llava-v1.6-34b-hf"}`; `"style": "paper"` among them asks about each
            pair once, as the paper does, and not in both orders.
        reward_funcs (`list[str]`, *optional*): in place of a judge, rewards: `yes_no`, `exact_match`, `format`,
            `length` and `objects` (`trl_mm.reward.verifiable`), functions by their dotted path, looked for in the
            working directory too, or ids or paths of reward models; those of a vision-language model see the images. A
            mapping gives one its arguments, such as `{"objects": {"metric": "chair"}}`.
        ref_model_name_or_path (`str`, *optional*): reference model; defaults to the initial policy.
    """

    judge: dict | str | None = None
    reward_funcs: list[str] | None = None
    ref_model_name_or_path: str | None = None


def make_parser():
    from trl import ModelConfig

    from ..trainer.online_dpo_config import MMOnlineDPOConfig
    from .recipe_parser import RecipeParser

    return RecipeParser((OnlineDPOArguments, MMOnlineDPOConfig, ModelConfig), prog="trl-mm online-dpo")


def main(argv=None, launch=None):
    start(make_parser(), run, argv, launch)


def run(args, training_args, model_args, argv, launch=None):
    from trl import get_quantization_config
    from trl.trainer.utils import create_model_from_path

    from ..data.rows import PREFERENCE_COLUMNS
    from ..trainer.online_dpo_trainer import MMOnlineDPOTrainer, check_ranking

    benchmarks = training_benchmarks(args, training_args)
    needs = PREFERENCE_COLUMNS if training_args.offline_probability > 0 else ("images", "prompt")
    if args.dry_run:
        sampled = training_args.max_new_tokens if training_args.offline_probability < 1 else None
        dry_run(
            args,
            training_args,
            model_args,
            needs,
            launch,
            answer_tokens=sampled,
            has_reference=None if args.ref_model_name_or_path is None else True,
        )
        print("Not counted: judge, reward models, and the key-value cache while answers are sampled.")
        return
    check_training(training_args, model_args)
    quantization = get_quantization_config(model_args)
    if quantization is not None:
        training_args.model_init_kwargs["quantization_config"] = quantization
    asked = None if args.judge == "null" else args.judge  # so that a flag can take back what a recipe says
    if asked is not None and args.reward_funcs is not None:
        raise ValueError(
            "Answers are ranked by `judge` or by `reward_funcs`. Leave one out; `--judge null` takes back a recipe's."
        )
    reward_funcs = None if args.reward_funcs is None else reward_functions(args.reward_funcs)
    judge = None if asked is None else make_judge(asked)
    check_ranking(judge, reward_funcs, training_args.offline_probability, training_args.missing_eos_penalty)
    reference = args.ref_model_name_or_path
    if reference is not None:
        reference = create_model_from_path(reference, **training_args.model_init_kwargs)
    train_dataset, eval_dataset = load_splits(args, training_args, needs)
    check_columns(reward_funcs, train_dataset.column_names)
    trainer = MMOnlineDPOTrainer(
        model_args.model_name_or_path,
        reference,
        reward_funcs,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        peft_config=peft_config(model_args),
        judge=judge,
    )
    add_benchmarks(trainer, benchmarks)
    train_and_save(trainer, args, model_args)


def make_judge(settings):
    """A judge from a mapping, or its JSON."""
    import inspect

    from ..judges.pairwise import PairwiseVLMJudge
    from ..judges.remote import RemoteJudge
    from ..judges.remote_client import ChatClient
    from .reward_judge import reward_judge

    # The judge, and who takes its settings
    kinds = {"vlm": [PairwiseVLMJudge], "remote": [RemoteJudge, ChatClient], "reward": [reward_judge]}
    example = '{"kind": "vlm", "model": "llava-hf/llava-v1.6-34b-hf"}'
    settings = dict(as_mapping("judge", settings, example))
    kind = settings.pop("kind", None)
    if kind not in kinds or "model" not in settings:
        raise ValueError(f"`judge` needs a `kind` ({', '.join(kinds)}) and a `model`. Write {example}.")
    known = dict.fromkeys(name for taker in kinds[kind] for name in inspect.signature(taker).parameters)
    check_keys("judge", settings, [name for name in known if name != "client_settings"])
    if settings.get("load_in_4bit"):
        need_package("bitsandbytes", "`load_in_4bit` of `judge`")
    check_attention(settings.get("attn_implementation"))
    return kinds[kind][0](**settings)


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
