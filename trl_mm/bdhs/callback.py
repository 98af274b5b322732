"""BDHS inside training, as a callback."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from accelerate import PartialState
from datasets import Dataset, Image, List
from datasets.fingerprint import Hasher
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback

from ..data.append_shards import AppendableShards
from ..data.fingerprints import rows_digest, weights_digest
from ..data.hub import check_repo, push_preferences
from ..data.images import with_open_images
from ..data.manifest import MANIFEST
from ..tokens.chat_template import prompt_settings
from .config import BDHSConfig
from .dataset import make_pairs
from .metrics import COLUMNS, pair_metrics
from .modes import MODES
from .sampler import NEEDS, BDHSSampler, draw_seed
from .timed_sampler import TimedSampler


logger = logging.getLogger(__name__)

# Arguments of `push_preferences` that can be wrong before there are rows
CHECKED = ("repo_id", "private", "overwrite", "token")


class BDHSDataGenerator(TrainerCallback):
    """
    Makes the pairs that [`MMDPOTrainer`] trains on from SFT rows (`images`, `prompt`, `chosen`).

    With `mode="povid"` and `online=True` it makes none: as in the published loss of POVID, the trainer scores the
    tokens that are likeliest under a noisy image, each after the chosen answer's own tokens and under the clean image.
    The metric `bdhs/changed_rate` is the share of tokens that are not the chosen answer's.

    Args:
        config ([`BDHSConfig`], *optional*):
            Settings of the sampler.
        online (`bool`, *optional*, defaults to `True`):
            Whether pairs are made from the current policy at each step (Online-BDHS), or offline, before training,
            from the initial policy.
        save_to (`str`, *optional*):
            Folder of the pairs, as shards with a manifest. With `online=True` they are only written if this or
            `push_to_hub` is given, each with its `step`; training that is resumed continues at its checkpoint's step.
            With `online=False` a killed run's folder is resumed. Defaults to `pairs` in the output
            directory.
        rejected_weight (`float`, *optional*):
            What becomes of a `rejected` that a row has already. By default it is not looked at. With a weight, the
            loss averages both: γ·L(chosen, stored) + (1 - γ)·L(chosen, sampled), γ being the weight (eq. 5; 0.5 in the
            paper), and the sampled one is `second_rejected`. A row without one counts its sampled answer alone.
        push_to_hub (`dict`, *optional*):
            Arguments of [`push_preferences`], such as `{"repo_id": "me/pairs", "private": True}`. With `online=True`
            pairs are pushed after the last step; if that fails, a warning says so and they stay in their folder. With
            `online=False` they are pushed before the first step, and training that is resumed does not push again. Nor
            does a finished run that is repeated.

    Metrics of each step, next to TRL's; with `online=False` of all pairs, with the first step:
    `bdhs/attempts` (mean attempts per row), `bdhs/acceptance_rate` (share of rows accepted by the similarity gate; not
    with `mode="povid"`, which has none), `bdhs/similarity` (mean similarity of rejected to chosen),
    `bdhs/unguided_rate` (share of rows that fell back to the unguided last attempt; 1 with `guided=False`) and
    `bdhs/answers_per_second` (of one process; 0 if all pairs were there already). All are means over processes.
    """

    needs = NEEDS

    def __init__(
        self,
        config: BDHSConfig | None = None,
        *,
        online: bool = True,
        save_to: str | os.PathLike | None = None,
        rejected_weight: float | None = None,
        push_to_hub: Mapping[str, Any] | None = None,
    ):
        if rejected_weight is not None and not 0 <= rejected_weight <= 1:
            raise ValueError(f"`rejected_weight` must be in [0, 1], got {rejected_weight}.")
        if push_to_hub is not None and "repo_id" not in push_to_hub:
            raise ValueError(f"`push_to_hub` needs a `repo_id`, got {push_to_hub}.")
        self.config = config or BDHSConfig()
        self.online = online
        if self.distorts and (save_to is not None or push_to_hub is not None):
            raise ValueError(
                f"`mode='{self.config.mode}'` with `online=True` scores tokens after those of the chosen answer: "
                "there are no pairs for `save_to` and `push_to_hub`. Leave these out, or make pairs before training "
                "(`online=False`)."
            )
        self.save_to = save_to
        self.rejected_weight = rejected_weight
        self.push_to_hub = push_to_hub
        self._sampler: BDHSSampler | None = None
        self._folder: str | os.PathLike | None = None
        self._shards = None
        self._pushes = False
        self._answers_per_second = 0.0

    @property
    def distorts(self) -> bool:
        """Whether tokens are scored in place of the chosen answer's, and no pairs are made (`bool`)."""
        return self.online and MODES[self.config.mode].teacher_forced

    def distorted_images(self, rows: Sequence[dict[str, Any]], step: int | None) -> list[list[PIL.Image.Image]]:
        """
        Distorted images of the rows of one step, from which the trainer takes the likeliest tokens.

        Args:
            rows (`list[dict]`): rows with `row_id` and `images`.
            step (`int`): optimizer step, so that a row has another noise in every epoch.

        Returns:
            `list[list[PIL.Image.Image]]`
        """
        distort = MODES[self.config.mode].images
        return [
            distort(with_open_images(row)["images"], self.config, draw_seed(self.config, step, row, 1)) for row in rows
        ]

    def sampler(self, processor: ProcessorMixin, device: str | torch.device | None = None) -> BDHSSampler:
        """The sampler, made when it is first needed."""
        if self._sampler is None:
            self._sampler = BDHSSampler(self.config, processor, device)
        return self._sampler

    def sample(
        self, model: PreTrainedModel, processor: ProcessorMixin, rows: Sequence[dict[str, Any]], step: int | None
    ) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """
        Make pairs from the rows of one step.

        Args:
            model ([`~transformers.PreTrainedModel`]): current policy, unwrapped.
            processor ([`~transformers.ProcessorMixin`]): its processor.
            rows (`list[dict]`): SFT rows.
            step (`int`, *optional*): optimizer step, so that a row is masked and cut anew in every epoch; `None` in
                evaluation, whose pairs are not kept.

        Returns:
            `(list[dict], dict[str, float])`: preference rows in the order of the rows, and metrics.
        """
        make = TimedSampler(self.sampler(processor, str(model.device)), self.rejected_weight is not None)
        pairs = make(model, [with_open_images(row) for row in rows], step)
        metrics = pair_metrics(*([pair[name] for pair in pairs] for name in COLUMNS), self.config)
        if step is not None and self._shards is not None:
            self._shards.add([{**pair, "images": row["images"]} for pair, row in zip(pairs, rows, strict=True)], step)
        return pairs, {**metrics, "bdhs/answers_per_second": make.answers_per_second}

    def make_dataset(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        dataset: Dataset,
        folder: str | os.PathLike,
        rank: int,
        world_size: int,
    ) -> str | os.PathLike:
        """Make pairs from all rows with the initial policy; returns the folder of the shards."""
        folder = self.save_to or folder
        # Where pairs are begun already, the run may be one that has pushed them and is resumed
        if rank == 0 and not (Path(folder) / MANIFEST).exists():
            self.check_repo()
        source = {"model": model.config.name_or_path, "weights": weights_digest(model), **prompt_settings(processor)}
        if self.rejected_weight is not None and "rejected" in dataset.column_names:
            source["rejected"] = Hasher.hash(dataset["rejected"][:])
        make = TimedSampler(self.sampler(processor, str(model.device)), self.rejected_weight is not None)
        make_pairs(model, make, dataset, folder, source, rank=rank, world_size=world_size)
        self._folder, self._answers_per_second = folder, make.answers_per_second
        return folder

    def sampling_metrics(self, pairs: Dataset) -> dict[str, float]:
        """Metrics of the pairs of [`make_dataset`] (`datasets.Dataset`)."""
        columns = pairs.select_columns(list(COLUMNS))[:]
        metrics = pair_metrics(*(columns[name] for name in COLUMNS), self.config)
        return {**metrics, "bdhs/answers_per_second": self._answers_per_second}

    def check_repo(self) -> None:
        """
        Find out whether the pairs may be pushed, if they shall be. For one process, before anything long begins.

        Raises:
            ValueError: `repo_id` is no name of a repository, or the repository exists.
            PermissionError: there is no token, or the Hub refuses it.
            OSError: the Hub cannot be reached.
        """
        if self.push_to_hub:
            check_repo(**{name: value for name, value in self.push_to_hub.items() if name in CHECKED})

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, processing_class=None, **kwargs):
        if self.online and (self.save_to or self.push_to_hub):
            self._folder = self.save_to or Path(args.output_dir) / "pairs"
            self._pushes = state.is_world_process_zero and not 0 < state.max_steps <= state.global_step
            if self._pushes:
                self.check_repo()
            elif self.push_to_hub and state.is_world_process_zero:
                logger.warning(
                    "No step is left, so the pairs in %s are not pushed again. If they are not on the Hub, push them "
                    "with `push_preferences`.", self._folder,
                )  # fmt: skip
            # A trainer of somebody else, or a test, may hand over no processor
            prompt = prompt_settings(processing_class) if processing_class is not None else {}
            self._shards = AppendableShards(
                self._folder,
                {**self._settings(args, model, train_dataloader.dataset), **prompt},
                start=state.global_step,
                rank=args.process_index,
                world_size=args.world_size,
            )
            return
        # All processes have made their pairs by now, which one of them could not know in `make_dataset`
        folder, self._folder = self._folder, None
        if self.push_to_hub and folder and state.is_world_process_zero and state.global_step == 0:
            push_preferences(folder, **self.push_to_hub)

    def on_step_end(self, args, state, control, **kwargs):
        if self._shards is not None:
            self._shards.end_step(write=control.should_save)
            if control.should_save:
                # A checkpoint is where a killed run resumes: what was made before it must be there by then
                PartialState().wait_for_everyone()

    # What else may lead to a checkpoint
    on_epoch_end = on_step_end

    def on_evaluate(self, args, state, control, **kwargs):
        if self._shards is not None and args.save_strategy == "best":
            self._shards.end_step(write=True)

    def on_train_end(self, args, state, control, **kwargs):
        shards, self._shards = self._shards, None
        if shards is None:
            return
        shards.end_step(write=True)
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            shards.finish()
        PartialState().wait_for_everyone()
        if self._pushes and self.push_to_hub:
            try:
                push_preferences(self._folder, **self.push_to_hub)
            except (OSError, ValueError) as error:  # the model is not saved yet
                logger.warning(
                    "The pairs were not pushed: %s They are in %s. Push them with `push_preferences`.",
                    error, self._folder,
                )  # fmt: skip

    def _settings(self, args, model, dataset):
        """What determines the pairs of each step, for the manifest."""
        batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return {
            "bdhs": self.config.as_settings(),
            "rows": rows_digest(dataset.cast_column("images", List(Image(decode=False)))),
            "model": model.config.name_or_path,
            "training": {"batch_size": batch_size, "learning_rate": args.learning_rate, "seed": args.seed},
            "rejected_weight": self.rejected_weight,
        }
