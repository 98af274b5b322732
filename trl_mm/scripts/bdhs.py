"""`trl-mm bdhs`: preference pairs from SFT rows, by Bias-Driven Hallucination Sampling."""

import shlex
import sys
from dataclasses import dataclass

from ..bdhs.config import BDHSConfig
from ..data.subset import check_subset
from .models import ModelArguments, check_base, check_model_path, load_model, load_processor
from .output_lock import alone_in
from .pair_dataset import PairArguments, check_pair_folder, check_push, load_sft_rows, push_pairs, reading_options
from .preflight import check_attention
from .processes import partners_of, process_state
from .ranges import check_positive
from .vllm_models import VLLMArguments, check_one_process, check_vllm, load_vllm


@dataclass(kw_only=True)
class BDHSArguments(PairArguments, ModelArguments, VLLMArguments):
    """
    Arguments of `trl-mm bdhs` besides those of [`BDHSConfig`].

    Args:
        streaming (`bool`, *optional*, defaults to `False`): whether to read and check rows as they come, for data
            larger than memory or disk. Every process reads all of it; a bad row shows when it is reached.
    """

    streaming: bool = False

    def __post_init__(self):
        super().__post_init__()
        VLLMArguments.__post_init__(self)  # which the others do not pass on to
        check_positive(self, "process_timeout")
        check_subset(self.max_rows, self.shuffle_seed, self.streaming)


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((BDHSArguments, BDHSConfig), prog="trl-mm bdhs")


def main(argv=None):
    args, config = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
    check_model_path(args.model_name_or_path)
    check_base(args.model_name_or_path)
    check_attention(args.attn_implementation)
    check_vllm(args, [args.model_name_or_path], config)
    check_pair_folder(args.output_dir)
    state = process_state(args.process_timeout)
    check_one_process(args, state)
    with alone_in(output_dir=args.output_dir):
        run(args, config, state, argv)
    state.destroy_process_group()


def run(args, config, state, argv):
    from ..bdhs.dataset import check_image_paths, make_pairs
    from ..bdhs.sampler import BDHSSampler
    from ..bdhs.summary import summary
    from ..data.fingerprints import weights_digest
    from ..data.sources import local_folder
    from ..tokens.chat_template import prompt_settings
    from ..tokens.control_tokens import check_texts

    # Before the model is loaded: a refused token, an embedding model that is not there, bad rows
    if state.is_main_process:
        check_push(args)
    processor = load_processor(args)
    sampler = BDHSSampler(config, processor, str(state.device))
    dataset = load_rows(args)
    if not args.streaming:
        check_texts(dataset, processor)
    image_folder = args.image_folder or local_folder(args.dataset_name)
    check_image_paths(dataset, args.images, image_folder)
    if args.use_vllm:
        model = load_vllm(args, state.device, processor, hides=config.mode == "attention")
    else:
        model = load_model(args, state.device, processor)
    source = {
        "model": args.model_name_or_path,
        "model_revision": args.model_revision,
        "weights": weights_digest(model, args.model_name_or_path),
        "dtype": args.dtype,
        "dataset": args.dataset_name,
        "dataset_split": args.dataset_split,
        **({} if args.shuffle_seed is None else {"shuffle_seed": args.shuffle_seed}),
        **({"engine": "vllm"} if args.use_vllm else {}),
        **prompt_settings(processor),
    }
    partners = partners_of(state, args.process_timeout)
    make_pairs(
        model,
        sampler,
        dataset,
        args.output_dir,
        source,
        images=args.images,
        image_folder=image_folder,
        shard_size=args.shard_size,
        rank=state.process_index,
        world_size=state.num_processes,
        command=shlex.join(["trl-mm", "bdhs", *(sys.argv[1:] if argv is None else argv)]),
    )
    partners.wait()
    state.wait_for_everyone()
    if state.is_main_process:
        print(f"{summary(args.output_dir)}\n\nPairs in {args.output_dir}")
        push_pairs(args, image_folder)


def load_rows(args):
    from ..data.streaming import stream_preferences
    from ..data.tables import check_some_images

    if args.streaming:
        return stream_preferences(args.dataset_name, max_rows=args.max_rows, **reading_options(args))
    dataset = load_sft_rows(args)
    check_some_images(dataset, args.dataset_name)
    return dataset


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
