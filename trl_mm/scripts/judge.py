"""`trl-mm judge`: how often a judge prefers the chosen answers of a preference dataset."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ..data.subset import check_subset
from ..judges.wording import STYLES, check_style
from .models import ModelArguments, check_base, check_model_path
from .output_lock import alone_in
from .preflight import check_attention, check_writable, need_package
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive
from .training import as_mapping


KINDS = ("vlm", "remote", "reward")


@dataclass(kw_only=True)
class JudgeArguments(ModelArguments):
    """
    Arguments of `trl-mm judge`. `model_name_or_path` is the judge: with `judge="remote"` its name at the endpoint, and
    `dtype`, `model_revision`, `attn_implementation` and `trust_remote_code` then do nothing; with `judge="reward"` a
    model of `trl-mm reward`, which is asked nothing: `style` and `max_new_tokens` do nothing. Rows with a column
    `group` are also scored by group, as those of VL-RewardBench (`converter="vl_rewardbench"`).

    Args:
        dataset_name (`str`): folder, JSONL, JSON or parquet file, or Hub id of the preference rows.
        output_dir (`str`): where the verdicts and `judge.json` go. A killed run's folder is resumed.
        judge (`str`, *optional*, defaults to `"vlm"`): `"vlm"` for a model that is loaded here, `"remote"` for one
            behind an OpenAI-compatible endpoint, `"reward"` for the higher score of a reward model.
        style (`str`, *optional*, defaults to `"both_orders"`): `"both_orders"` asks about each pair twice, each answer
            once in front, and decides where both replies agree; `"paper"` asks once, in a random order, for one of the
            two, as arXiv 2407.02477 does.
        dataset_split (`str`, *optional*, defaults to `"train"`): split to read.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data.
        converter (`str`, *optional*): what the rows are written like, if not in the row format: name of a converter,
            or `"auto"` for the one that fits the columns.
        columns (`dict`, *optional*): new names of columns to those that they have: `{"prompt": "question"}`.
        on_bad_image (`str`, *optional*, defaults to `"error"`): `"error"`, or `"skip"` to leave out rows with a
            missing or undecodable image, count them, and list them in `bad_rows.jsonl`.
        max_rows (`int`, *optional*): use only the first rows; the others are not looked at.
        shuffle_seed (`int`, *optional*): with `max_rows`, use a random subset instead, drawn with this seed.
        max_new_tokens (`int`, *optional*, defaults to `128`): longest reply, in tokens.
        batch_size (`int`, *optional*, defaults to `8`): with `judge="vlm"`, questions that go through the model
            together; with `judge="reward"`, answers.
        load_in_4bit (`bool`, *optional*, defaults to `False`): with `judge="vlm"`, whether to load 4-bit weights.
        base_url (`str`, *optional*): with `judge="remote"`, the endpoint, up to `/v1`; defaults to OpenAI's.
        api_key_variable (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): with `judge="remote"`, environment
            variable that holds the key.
        request_options (`dict`, *optional*): with `judge="remote"`, further fields of a request; `None` leaves one of
            ours out, `{"max_tokens": None, "max_completion_tokens": 1000}`.
        max_concurrency (`int`, *optional*, defaults to `8`): with `judge="remote"`, most requests at a time, for each
            process.
        timeout (`float`, *optional*, defaults to `120.0`): with `judge="remote"`, seconds that a request may take.
        cache_dir (`str`, *optional*): with `judge="remote"`, folder of the replies, so that nothing is asked twice;
            defaults to `trl_mm/replies` in the cache of Hugging Face.
        shard_size (`int`, *optional*, defaults to `64`): rows per shard; what a kill costs at most.
        seed (`int`, *optional*, defaults to `0`): which answer of a pair is shown first derives from it.
    """

    dataset_name: str
    output_dir: str
    judge: str = field(default="vlm", metadata={"choices": KINDS})
    style: str = field(default="both_orders", metadata={"choices": STYLES})
    dataset_split: str = "train"
    image_folder: str | None = None
    converter: str | None = None
    columns: dict | str | None = None
    on_bad_image: str = field(default="error", metadata={"choices": ["error", "skip"]})
    max_rows: int | None = None
    shuffle_seed: int | None = None
    max_new_tokens: int = 128
    batch_size: int = 8
    load_in_4bit: bool = False
    base_url: str | None = None
    api_key_variable: str = "OPENAI_API_KEY"
    request_options: dict | str | None = None
    max_concurrency: int = 8
    timeout: float = 120.0
    cache_dir: str | None = None
    shard_size: int = 64
    seed: int = 0

    def __post_init__(self):
        if self.judge not in KINDS:
            raise ValueError(f"`judge` must be one of {', '.join(KINDS)}, got {self.judge!r}.")
        check_style(self.style)
        if self.judge != "remote" and (self.base_url is not None or self.request_options is not None):
            raise ValueError("`base_url` and `request_options` would do nothing. Set `judge` to remote with them.")
        if self.judge == "reward" and self.load_in_4bit:
            raise ValueError("`load_in_4bit` needs `judge` vlm. Load a reward model with `dtype` bfloat16.")
        check_at_least(self, max_rows=1, max_new_tokens=1, batch_size=1, max_concurrency=1, shard_size=1, seed=0)
        check_positive(self, "timeout", "process_timeout")
        check_subset(self.max_rows, self.shuffle_seed)
        if self.columns is not None:
            self.columns = as_mapping("columns", self.columns, '{"prompt": "question"}')
        if self.request_options is not None:
            self.request_options = as_mapping("request_options", self.request_options, '{"seed": 1}')


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((JudgeArguments,), prog="trl-mm judge")


def main(argv=None):
    (args,) = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)

    check_writable("output_dir", args.output_dir)
    if args.judge != "remote":
        check_model_path(args.model_name_or_path)
        check_base(args.model_name_or_path)
        check_attention(args.attn_implementation)
        if args.load_in_4bit:
            need_package("bitsandbytes", "`load_in_4bit`")
    else:
        check_writable("cache_dir", args.cache_dir)
    state = process_state(args.process_timeout)
    with alone_in(output_dir=args.output_dir):
        run(args, state)
    state.destroy_process_group()


def run(args, state):
    from ..data.atomic_file import replacing
    from ..data.loading import BAD_ROWS, load_preferences
    from ..eval.judge_accuracy import judge_dataset, judge_scores, read_verdicts

    dataset = load_preferences(
        args.dataset_name,
        converter=args.converter,
        columns=args.columns,
        split=args.dataset_split,
        image_folder=args.image_folder,
        on_bad_image=args.on_bad_image,
        bad_rows_file=Path(args.output_dir) / BAD_ROWS,
        max_rows=args.max_rows,
        shuffle_seed=args.shuffle_seed,
    )
    judge, settings = JUDGES[args.judge](args, state.device)
    folder = Path(args.output_dir) / "verdicts"
    partners = partners_of(state, args.process_timeout)
    judge_dataset(
        judge,
        dataset,
        folder,
        {
            "judge": args.judge,
            "model": args.model_name_or_path,
            **({} if args.shuffle_seed is None else {"shuffle_seed": args.shuffle_seed}),
            **settings,
        },
        seed=args.seed,
        shard_size=args.shard_size,
        rank=state.process_index,
        world_size=state.num_processes,
    )
    partners.wait()
    state.wait_for_everyone()
    if state.is_main_process:
        groups = list(map(str, dataset["group"])) if "group" in dataset.column_names else None
        scores = {**style_of(args), **judge_scores(read_verdicts(folder), groups=groups)}
        path = Path(args.output_dir) / "judge.json"
        with replacing(path, "main") as file:
            file.write(json.dumps(scores, indent=2).encode() + b"\n")
        print(f"{args.model_name_or_path}: {summary(scores)}\nScores in {path}")


def style_of(args):
    """How a judge is asked (`dict`); a reward model is asked nothing."""
    return {} if args.judge == "reward" else {"style": args.style}


def questioning(args):
    """Arguments of a judge that is asked, and what its verdicts depend on by them."""
    from ..judges.prompts import question

    asked = "".join(question([{"role": "user", "content": ""}], count, "", "", args.style) for count in (0, 1))
    return {name: getattr(args, name) for name in ("style", "seed", "max_new_tokens", "system_prompt")}, {
        "max_new_tokens": args.max_new_tokens,
        "style": args.style,
        "question": hashlib.sha256(asked.encode()).hexdigest(),
    }


def vlm_judge(args, device):
    """Judge that is loaded here, and what its verdicts depend on."""
    from ..data.fingerprints import weights_digest
    from ..generation.merged_adapters import merge_for_good
    from ..judges.pairwise import PairwiseVLMJudge
    from ..tokens.chat_template import prompt_settings

    shared, asked = questioning(args)
    judge = PairwiseVLMJudge(
        args.model_name_or_path,
        **shared,
        batch_size=args.batch_size,
        dtype=args.dtype,
        device=str(device),
        load_in_4bit=args.load_in_4bit,
        revision=args.model_revision,
        attn_implementation=args.attn_implementation,
        trust_remote_code=args.trust_remote_code,
    )
    digest = weights_digest(judge.model, args.model_name_or_path)
    merge_for_good(judge.model, args.merge_adapter)
    return judge, {
        **asked,
        **prompt_settings(judge.completer.processor),
        "model_revision": args.model_revision,
        "weights": digest,
        "dtype": args.dtype,
        "load_in_4bit": args.load_in_4bit,
    }


def reward_judge(args, device):
    """Judge by the scores of a reward model, and what its verdicts depend on."""
    from ..data.fingerprints import weights_digest
    from ..tokens.chat_template import prompt_settings
    from . import reward_judge as rewards

    judge = rewards.reward_judge(
        args.model_name_or_path,
        batch_size=args.batch_size,
        dtype=args.dtype,
        device=device,
        revision=args.model_revision,
        attn_implementation=args.attn_implementation,
        trust_remote_code=args.trust_remote_code,
        system_prompt=args.system_prompt,
    )
    (scorer,) = judge.reward_funcs
    return judge, {
        **prompt_settings(scorer.collator.processor),
        "model_revision": args.model_revision,
        "weights": weights_digest(scorer.model, args.model_name_or_path),
        "dtype": args.dtype,
    }


def remote_judge(args, device):
    """Judge behind an endpoint, and what its verdicts depend on."""
    from ..judges.remote import RemoteJudge

    shared, asked = questioning(args)
    judge = RemoteJudge(
        args.model_name_or_path,
        **shared,
        **({} if args.base_url is None else {"base_url": args.base_url}),
        options=args.request_options,
        api_key_variable=args.api_key_variable,
        max_concurrency=args.max_concurrency,
        timeout=args.timeout,
        cache_dir=args.cache_dir,
    )
    system = {"system_prompt": args.system_prompt} if args.system_prompt else {}
    return judge, {**asked, "request_options": args.request_options, **system}


def summary(scores):
    """What `judge.json` says, in one line; with both orders a second line has the figures of the first one alone."""
    share = scores["first_place_share"]
    line = _accuracy(scores, scores["num_pairs"], ("tie", "invalid", "inconsistent"))
    line += "" if share is None else f"; prefers the first place {share:.1%} of the time"
    if scores.get("style") == "both_orders":
        line += f"\nIn one order alone: {_accuracy(scores['one_order'], scores['num_pairs'], ('tie', 'invalid'))}"
    return line if "groups" not in scores else f"{line}\n{_groups(scores)}"


def _groups(scores):
    parts = [f"{name} {part['accuracy_all']:.1%} of {part['num_pairs']}" for name, part in scores["groups"].items()]
    return f"By group, of all pairs: {', '.join(parts)}; their mean {scores['macro_accuracy_all']:.1%}"


def _accuracy(scores, num_pairs, outcomes):
    if scores["accuracy_decided"] is None:
        accuracy = "no clear verdict"
    else:
        low, high = scores["intervals"]["accuracy_decided"]
        accuracy = (
            f"accuracy {scores['accuracy_decided']:.1%} [{low:.1%}, {high:.1%}] of {scores['num_decided']} decided "
            f"pairs, {scores['accuracy_all']:.1%} of all {num_pairs}"
        )
    return f"{accuracy}; " + ", ".join(f"{name} {scores[f'{name}_rate']:.1%}" for name in outcomes)


JUDGES = {"vlm": vlm_judge, "remote": remote_judge, "reward": reward_judge}


if __name__ == "__main__":
    import sys

    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
