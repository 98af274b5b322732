"""`trl-mm bdhs`: preference pairs from SFT rows, by Bias-Driven Hallucination Sampling."""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..bdhs.config import BDHSConfig
from ..data.subset import check_subset
from .models import ModelArguments, check_base, check_model_path, load_model, load_processor
from .output_lock import alone_in
from .preflight import check_attention, check_writable
from .processes import partners_of, process_state
from .ranges import check_at_least, check_positive
from .training import as_mapping


@dataclass(kw_only=True)
class BDHSArguments(ModelArguments):
    """
    Arguments of `trl-mm bdhs` besides those of [`BDHSConfig`].

    Args:
        dataset_name (`str`): folder, JSONL, JSON or parquet file, or Hub id of the SFT rows (`images`, `prompt`,
            `chosen`).
        output_dir (`str`): folder of the pairs. A killed run's folder is resumed.
        dataset_split (`str`, *optional*, defaults to `"train"`): split to read.
        image_folder (`str`, *optional*): folder that image paths are relative to; defaults to that of the data.
        converter (`str`, *optional*): what the rows are written like, if not in the row format: name of a converter,
            such as `"llava_instruct"`, or `"auto"` for the one that fits the columns.
        columns (`dict`, *optional*): new names of columns to those that they have: `{"prompt": "question"}`.
        on_bad_image (`str`, *optional*, defaults to `"error"`): `"error"`, or `"skip"` to leave out rows with a
            missing or undecodable image, count them, and list them in `bad_rows.jsonl`.
        streaming (`bool`, *optional*, defaults to `False`): whether to read and check rows as they come, for data
            larger than memory or disk. Every process reads all of it; a bad row shows when it is reached.
        images (`str`, *optional*, defaults to `"embed"`): `"embed"` to store the image files in the shards, `"path"`
            to store their paths relative to the image folder, which whoever loads the pairs then passes.
        max_rows (`int`, *optional*): use only the first rows; the others are not looked at.
        shuffle_seed (`int`, *optional*): with `max_rows`, use a random subset instead, drawn with this seed.
        shard_size (`int`, *optional*, defaults to `256`): source rows per shard; what a kill costs at most.
        push_to_hub (`bool`, *optional*, defaults to `False`): whether to push the pairs to the Hub, with a card.
        repo_id (`str`, *optional*): with `push_to_hub`, dataset on the Hub, as `owner/name`.
        private (`bool`, *optional*, defaults to `False`): whether only its owner may see it.
        overwrite (`bool`, *optional*, defaults to `False`): whether to replace the rows and the card of a dataset that
            exists on the Hub, also after an interrupted push.
        license (`str`, *optional*, defaults to `"unknown"`): identifier of the licence, for the card.
    """

    dataset_name: str
    output_dir: str
    dataset_split: str = "train"
    image_folder: str | None = None
    converter: str | None = None
    columns: dict | str | None = None
    on_bad_image: str = field(default="error", metadata={"choices": ["error", "skip"]})
    streaming: bool = False
    images: str = field(default="embed", metadata={"choices": ["embed", "path"]})
    max_rows: int | None = None
    shuffle_seed: int | None = None
    shard_size: int = 256
    push_to_hub: bool = False
    repo_id: str | None = None
    private: bool = False
    overwrite: bool = False
    license: str = "unknown"

    def __post_init__(self):
        check_positive(self, "process_timeout")
        check_at_least(self, max_rows=1, shard_size=1)
        check_subset(self.max_rows, self.shuffle_seed, self.streaming)
        if self.columns is not None:
            self.columns = as_mapping("columns", self.columns, '{"prompt": "question"}')
        if self.push_to_hub and self.repo_id is None:
            raise ValueError("`push_to_hub` needs `repo_id`. Pass the name of the dataset on the Hub, as owner/name.")
        if not self.push_to_hub and (self.repo_id is not None or self.private or self.overwrite):
            raise ValueError("`repo_id`, `private` and `overwrite` would do nothing. Pass `push_to_hub` with them.")


def make_parser():
    from .recipe_parser import RecipeParser

    return RecipeParser((BDHSArguments, BDHSConfig), prog="trl-mm bdhs")


def main(argv=None):
    args, config = make_parser().parse_args_and_config(argv, fail_with_unknown_args=True)
    check_model_path(args.model_name_or_path)
    check_base(args.model_name_or_path)
    check_attention(args.attn_implementation)
    check_writable("output_dir", args.output_dir)
    if any(Path(args.output_dir).glob("*model.safetensors*")):
        raise ValueError(f"`output_dir` ({args.output_dir}) holds a trained model. Name another folder for the pairs.")
    state = process_state(args.process_timeout)
    with alone_in(output_dir=args.output_dir):
        run(args, config, state, argv)
    state.destroy_process_group()


def run(args, config, state, argv):
    from ..bdhs.dataset import check_image_paths, make_pairs
    from ..bdhs.sampler import BDHSSampler
    from ..bdhs.summary import summary
    from ..data.fingerprints import weights_digest
    from ..data.hub import check_repo, push_preferences
    from ..data.sources import local_folder
    from ..tokens.chat_template import prompt_settings
    from ..tokens.control_tokens import check_texts

    push = {"repo_id": args.repo_id, "private": args.private or None, "overwrite": args.overwrite}
    # Before the model is loaded: a refused token, an embedding model that is not there, bad rows
    if args.push_to_hub and state.is_main_process:
        check_repo(**push)
    processor = load_processor(args)
    sampler = BDHSSampler(config, processor, str(state.device))
    dataset = load_rows(args)
    if not args.streaming:
        check_texts(dataset, processor)
    image_folder = args.image_folder or local_folder(args.dataset_name)
    check_image_paths(dataset, args.images, image_folder)
    model = load_model(args, state.device, processor)
    source = {
        "model": args.model_name_or_path,
        "model_revision": args.model_revision,
        "weights": weights_digest(model, args.model_name_or_path),
        "dtype": args.dtype,
        "dataset": args.dataset_name,
        "dataset_split": args.dataset_split,
        **({} if args.shuffle_seed is None else {"shuffle_seed": args.shuffle_seed}),
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
        if args.push_to_hub:
            # Images that the shards refer to by path are embedded in what goes up
            pushed = {**push, "image_folder": image_folder} if args.images == "path" else push
            print(f"Pairs at {push_preferences(args.output_dir, **pushed, license=args.license)}")


def load_rows(args):
    from ..data.loading import BAD_ROWS, load_preferences
    from ..data.streaming import stream_preferences
    from ..data.tables import check_some_images

    options = {
        "converter": args.converter,
        "columns": args.columns,
        "split": args.dataset_split,
        "image_folder": args.image_folder,
        "needs": ("images", "prompt", "chosen"),
        "on_bad_image": args.on_bad_image,
        "max_rows": args.max_rows,
    }
    if args.streaming:
        return stream_preferences(args.dataset_name, **options)
    dataset = load_preferences(
        args.dataset_name,
        shuffle_seed=args.shuffle_seed,
        bad_rows_file=Path(args.output_dir) / BAD_ROWS,
        **options,
    )
    check_some_images(dataset, args.dataset_name)
    return dataset


if __name__ == "__main__":
    from .errors import run_with_one_line_errors

    sys.exit(run_with_one_line_errors(main))
