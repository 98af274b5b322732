"""BDHS inside training, as a callback."""

import time

from transformers import TrainerCallback

from ..data.fingerprints import weights_digest
from ..data.hub import push_preferences
from ..data.images import open_image
from .config import BDHSConfig
from .dataset import make_pairs
from .sampler import NEEDS, BDHSSampler


class BDHSDataGenerator(TrainerCallback):
    """
    Makes the pairs that [`MMDPOTrainer`] trains on from SFT rows (`images`, `prompt`, `chosen`).

    Args:
        config ([`BDHSConfig`], *optional*):
            Settings of the sampler.
        online (`bool`, *optional*, defaults to `True`):
            Whether pairs are made from the current policy at each step (Online-BDHS), or once before training from the
            initial policy.
        save_to (`str`, *optional*):
            With `online=False`, folder of the pairs. Defaults to `pairs` in the output directory. A folder that a
            killed run left is gone on with.
        rejected_weight (`float`, *optional*):
            With `online=True`, what becomes of a `rejected` that a row has already. By default it is not looked at.
            With a weight, the loss averages both: γ·L(chosen, stored) + (1 - γ)·L(chosen, sampled), γ being the weight
            (eq. 5; 0.5 in the paper). A row without one counts its sampled answer alone.
        push_to_hub (`dict`, *optional*):
            With `online=False`, arguments of [`push_preferences`], such as `{"repo_id": "me/pairs", "private": True}`:
            the pairs are pushed before the first step. Training that is resumed does not push again.

    Metrics of each step, next to TRL's: `bdhs/attempts` (mean attempts per row), `bdhs/acceptance_rate` (share of rows
    accepted by the similarity gate; not with `mode="povid"`, which has none), `bdhs/similarity` (mean similarity of
    rejected to chosen), `bdhs/unguided_rate` (share of rows that fell back to the unguided last attempt; 1 with
    `guided=False`) and `bdhs/answers_per_second`.
    """

    needs = NEEDS

    def __init__(self, config=None, *, online=True, save_to=None, rejected_weight=None, push_to_hub=None):
        if rejected_weight is not None and not 0 <= rejected_weight <= 1:
            raise ValueError(f"`rejected_weight` must be in [0, 1], got {rejected_weight}.")
        if rejected_weight is not None and not online:
            raise ValueError("`rejected_weight` needs `online=True`: pairs on disk have one rejected answer each.")
        if push_to_hub is not None and (online or "repo_id" not in push_to_hub):
            raise ValueError(
                f"`push_to_hub` needs `online=False` and a `repo_id`, got {push_to_hub} with `online={online}`."
            )
        self.config = config or BDHSConfig()
        self.online = online
        self.save_to = save_to
        self.rejected_weight = rejected_weight
        self.push_to_hub = push_to_hub
        self._sampler = None
        self._folder = None

    def sampler(self, processor, device=None):
        """The sampler, made when it is first needed."""
        if self._sampler is None:
            self._sampler = BDHSSampler(self.config, processor, device)
        return self._sampler

    def sample(self, model, processor, rows, step):
        """
        Make pairs from the rows of one step.

        Args:
            model ([`~transformers.PreTrainedModel`]): current policy, unwrapped.
            processor ([`~transformers.ProcessorMixin`]): its processor.
            rows (`list[dict]`): SFT rows.
            step (`int`): optimizer step, so that a row is masked and cut anew in every epoch.

        Returns:
            `(list[dict], dict[str, float])`: preference rows in the order of the rows, and metrics.
        """
        start = time.perf_counter()
        decoded = [{**row, "images": [open_image(image) for image in row["images"]]} for row in rows]
        pairs = self.sampler(processor, str(model.device))(model, decoded, step)
        seconds = time.perf_counter() - start
        metrics = {
            "bdhs/attempts": sum(pair["bdhs_attempts"] for pair in pairs) / len(pairs),
            "bdhs/similarity": sum(pair["bdhs_similarity"] for pair in pairs) / len(pairs),
            "bdhs/unguided_rate": sum(not pair["bdhs_guided"] for pair in pairs) / len(pairs),
            "bdhs/answers_per_second": len(pairs) / seconds,
        }
        if self.config.mode != "povid":
            metrics["bdhs/acceptance_rate"] = sum(self._was_accepted(pair) for pair in pairs) / len(pairs)
        if self.rejected_weight is not None:
            pairs = [with_both(row, pair) for row, pair in zip(rows, pairs, strict=True)]
        return pairs, metrics

    def _was_accepted(self, pair):
        fell_back = self.config.guided and not pair["bdhs_guided"]  # to the last attempt, which is kept unchecked
        return not fell_back and pair["bdhs_similarity"] < self.config.similarity_threshold

    def make_dataset(self, model, processor, dataset, folder, rank, world_size):
        """Make pairs from all rows with the initial policy; returns the folder of the shards."""
        folder = self.save_to or folder
        source = {"model": model.config.name_or_path, "weights": weights_digest(model)}
        sampler = self.sampler(processor, str(model.device))
        make_pairs(model, sampler, dataset, folder, source, rank=rank, world_size=world_size)
        self._folder = folder
        return folder

    def on_train_begin(self, args, state, control, **kwargs):
        # All processes have made their pairs by now, which one of them could not know in `make_dataset`
        folder, self._folder = self._folder, None
        if self.push_to_hub and folder and state.is_world_process_zero and state.global_step == 0:
            push_preferences(folder, **self.push_to_hub)


def with_both(row, pair):
    """The pair with the row's own `rejected`, if it has one, and the sampled one as `second_rejected`."""
    return {**pair, "rejected": row.get("rejected") or pair["rejected"], "second_rejected": pair["rejected"]}
