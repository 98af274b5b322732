"""`trl-mm corrupt`: preference pairs from SFT rows, by a text model that rewrites chosen answers with errors."""

import shlex
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..corruption.config import CorruptionConfig
from .models import ModelArguments, check_model_path
from .output_lock import alone_in
from .pair_dataset import PairArguments, check_pair_folder, check_push, load_sft_rows, push_pairs
from .preflight import check_attention, check_writable
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive
from .training import as_mapping


WRITERS = ("local", "remote")


@dataclass(kw_only=True)
class CorruptArguments(PairArguments, ModelArguments):
    """
    Arguments of `trl-mm corrupt` besides those of [`CorruptionConfig`]. `model_name_or_path` is the text model; with
    `writer="remote"` its name at the endpoint, and `dtype`, `model_revision`, `attn_implementation` and
    `trust_remote_code` then do nothing.

    Args:
        writer (`str`, *optional*, defaults to `"local"`): `"local"` for a text model that is loaded here, `"remote"`
            for one behind an OpenAI-compatible endpoint. It never sees the images.
        base_url (`str`, *optional*): with `writer="remote"`, the endpoint, up to `/v1`; defaults to OpenAI's.
        api_key_variable (`str`, *optional*, defaults to `"OPENAI_API_KEY"`): with `writer="remote"`, environment
            variable that holds the key.
        request_options (`dict`, *optional*): with `writer="remote"`, further fields of a request; `None` leaves one of
            ours out, `{"max_tokens": None, "max_completion_tokens": 1000}`.
        max_concurrency (`int`, *optional*, defaults to `8`): with `writer="remote"`, most requests at a time, for each
            process.
        timeout (`float`, *optional*, defaults to `120.0`): with `writer="remote"`, seconds that a request may take.
        cache_dir (`str`, *optional*): with `writer="remote"`, folder of the replies, so that nothing is asked twice;
            defaults to `trl_mm/replies` in the cache of Hugging Face.
    """

    writer: str = field(default="local", metadata={"choices": WRITERS})
    base_url: str | None = None
    api_key_variable: str = "OPENAI_API_KEY"
    request_options: dict | str | None = None
    max_concurrency: int = 8
    timeout: float = 120.0
    cache_dir: str | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.writer not in WRITERS:
            raise ValueError(f"`writer` must be one of {', '.join(WRITERS)}, got {self.writer!r}.")
        if self.writer == "local" and (self.base_url is not None or self.request_options is not None):
            raise ValueError("`base_url` and `request_options` would do nothing. Set `writer` to remote with them.")
        check_at_least(self, max_concurrency=1)
        check_positive(self, "timeout", "process_timeout")
        if self.request_options is not None:
            self.request_options = as_mapping("request_options", self.request_options, '{"seed": 1}')


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((CorruptArguments, CorruptionConfig), prog="trl-mm corrupt")


def main(argv=None):
    args, config = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
    if args.writer == "local":
        check_model_path(args.model_name_or_path)
        check_attention(args.attn_implementation)
    else:
        check_writable("cache_dir", args.cache_dir)
    check_pair_folder(args.output_dir)
    state = process_state(args.process_timeout)
    with alone_in(output_dir=args.output_dir):
        run(args, config, state, argv)
    state.destroy_process_group()


def run(args, config, state, argv):
    from ..corruption.dataset import corrupt_dataset
    from ..corruption.sampler import CorruptionSampler
    from ..data.sources import local_folder

    if state.is_main_process:
        check_push(args)
    dataset = load_sft_rows(args)
    image_folder = args.image_folder or local_folder(args.dataset_name)
    write, settings = MAKE[args.writer](args, config, state.device)
    sampler = CorruptionSampler(config, write, str(state.device))
    partners = partners_of(state, args.process_timeout)
    corrupt_dataset(
        sampler,
        dataset,
        args.output_dir,
        {
            "model": args.model_name_or_path,
            "writer": args.writer,
            "dataset": args.dataset_name,
            "dataset_split": args.dataset_split,
            **({} if args.shuffle_seed is None else {"shuffle_seed": args.shuffle_seed}),
            **settings,
        },
        images=args.images,
        image_folder=image_folder,
        shard_size=args.shard_size,
        rank=state.process_index,
        world_size=state.num_processes,
        command=shlex.join(["trl-mm", "corrupt", *(sys.argv[1:] if argv is None else argv)]),
    )
    partners.wait()
    state.wait_for_everyone()
    if state.is_main_process:
        print(f"{summary(args.output_dir)}\n\nPairs in {args.output_dir}")
        push_pairs(args, image_folder)


def local_writer(args, config, device):
    """The model that is loaded here, and what its pairs depend on."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ..corruption.writers import LocalWriter
    from ..data.fingerprints import weights_digest
    from ..generation.merged_adapters import merge_for_good

    source = {"revision": args.model_revision, "trust_remote_code": args.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(args.model_name_or_path, **source)
    model = AutoModelForCausalLM.from_pretrained(
        args.model_name_or_path, dtype=args.dtype, attn_implementation=args.attn_implementation, **source
    )
    digest = weights_digest(model, args.model_name_or_path)
    model = model.to(device).eval()
    merge_for_good(model, args.merge_adapter)
    write = LocalWriter(model, tokenizer, config, args.system_prompt)
    return write, {
        "model_revision": args.model_revision,
        "weights": digest,
        "dtype": args.dtype,
        "chat_template": tokenizer.chat_template,
        "system_prompt": args.system_prompt,
    }


def remote_writer(args, config, device):
    """The model behind an endpoint, and what its pairs depend on."""
    from ..corruption.writers import RemoteWriter

    write = RemoteWriter(
        args.model_name_or_path,
        config,
        **({} if args.base_url is None else {"base_url": args.base_url}),
        options=args.request_options,
        api_key_variable=args.api_key_variable,
        max_concurrency=args.max_concurrency,
        timeout=args.timeout,
        cache_dir=args.cache_dir,
        system_prompt=args.system_prompt,
    )
    return write, {"request_options": args.request_options, "system_prompt": args.system_prompt}


def summary(folder):
    """What a finished folder holds, as text for the terminal."""
    from ..data.manifest import read_manifest
    from ..data.shards import read_left_out

    manifest = read_manifest(folder)
    pairs, rows = manifest["num_rows"], manifest["num_source_rows"]
    lines = [f"{pairs:,} pairs from {rows:,} rows"]
    reasons = Counter(entry["reason"] for entry in read_left_out(folder))
    if reasons:
        counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        lines.append(
            f"No rewriting was kept for {reasons.total():,} rows ({reasons.total() / rows:.1%}), by the reason of the "
            f"last attempt: {counted}. They are listed in {Path(folder) / 'bad_rows.jsonl'}."
        )
    return "\n".join(lines)


MAKE = {"local": local_writer, "remote": remote_writer}


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
