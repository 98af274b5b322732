"""Whether rows fit `max_length`: what is dropped and what is cut, said before training."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from transformers.trainer_pt_utils import get_length_grouped_indices

from .lengths import TokenCounts


logger = logging.getLogger(__name__)

SHORT = 16  # tokens; of an answer that is cut to less than this, little is left to prefer


@dataclass(frozen=True)
class FitReport:
    """
    How the rows of a dataset fit; `str(report)` tells a reader.

    Attributes:
        counts ([`TokenCounts`]): tokens of all rows.
        max_length (`int`, *optional*): longest sequence in tokens.
        name (`str`, *optional*, defaults to `"train"`): name of the dataset.
        batch_size (`int`, *optional*): rows in a batch; without it nothing is said of padding.
        gradient_accumulation_steps (`int`, *optional*, defaults to `1`): batches in a step.
        parts (`Sequence[str]`, *optional*): of a mixture, the name of the dataset of each row.
    """

    counts: TokenCounts
    max_length: int | None = None
    name: str = "train"
    batch_size: int | None = None
    gradient_accumulation_steps: int = 1
    parts: Sequence[str] | None = None

    @property
    def by_part(self) -> dict[str, "FitReport"]:
        """[`FitReport`] of each part of a mixture, by its name; empty if it is none."""
        names = np.array([] if self.parts is None else self.parts)
        return {
            name: FitReport(self.counts.select(names == name), self.max_length, name)
            for name in sorted({*names.tolist()})
        }

    @property
    def kept(self) -> TokenCounts:
        """[`TokenCounts`] of the rows that are trained on, answers cut."""
        return self.counts.cut(self.max_length)

    @property
    def num_dropped(self) -> int:
        """Rows whose prompt alone fills `max_length`: both answers would be empty."""
        return len(self.counts) - len(self.kept)

    @property
    def num_too_long(self) -> int:
        """Rows whose prompt and longer answer exceed `max_length`; the dropped ones are among them."""
        return 0 if self.max_length is None else int((self.counts.longest > self.max_length).sum())

    @property
    def cuts(self) -> np.ndarray:
        """Pairs of tokens left and tokens lost, of shape `(num_cut, 2)`: one for each answer that is cut."""
        if self.max_length is None:
            return np.empty((0, 2), dtype=np.int64)
        fits = self.counts.prompt < self.max_length
        whole = np.concatenate([self.counts.chosen[fits], self.counts.rejected[fits]])
        left = np.concatenate([self.kept.chosen, self.kept.rejected])
        return np.stack([left, whole - left], axis=1)[left < whole]

    @property
    def num_short(self) -> int:
        """Answers that are cut to fewer than `SHORT` tokens."""
        return int((self.cuts[:, 0] < SHORT).sum())

    @property
    def fitting_max_length(self) -> int:
        """The smallest `max_length` that keeps every row whole."""
        return int(self.counts.longest.max())

    @property
    def padding(self) -> tuple[float, float]:
        """
        Share of padding to expect in batches, the mean over an epoch: `(float, float)`, in random order and with
        `train_sampling_strategy="group_by_length"`.
        """
        if self.batch_size is None:
            raise ValueError("`padding` is that of batches: give `batch_size`.")
        kept, generator = self.kept, torch.Generator().manual_seed(0)
        order = torch.randperm(len(kept), generator=generator).tolist()
        grouped = get_length_grouped_indices(
            kept.total.tolist(), self.batch_size * self.gradient_accumulation_steps, generator=generator
        )
        return kept.padding(order, self.batch_size), kept.padding(grouped, self.batch_size)

    def __str__(self) -> str:
        counts, limit = self.counts, self.max_length
        columns = {"prompt": counts.prompt, "  images": counts.image, "chosen": counts.chosen}
        if counts.rejected.any():
            columns["rejected"] = counts.rejected
        columns["prompt and longer answer"] = counts.longest
        lines = [
            f"Tokens of the {len(counts):,} rows of the {self.name} dataset",
            f"{'':24}{'min':>8}{'median':>8}{'95 %':>8}{'max':>8}",
        ]
        for title, values in columns.items():
            numbers = np.quantile(values, [0, 0.5, 0.95, 1], method="higher")
            lines.append(f"{title:24}" + "".join(f"{number:8}" for number in numbers))
        if limit is None:
            lines.append("There is no `max_length`: every row is kept whole.")
        elif not self.num_too_long:
            lines.append(f"All fit `max_length` ({limit}).")
        else:
            cuts = self.cuts
            lines.append(
                f"{self.num_too_long:,} rows exceed `max_length` ({limit}); {self.fitting_max_length} fits all."
            )
            lines.append(f"  dropped, as their prompt leaves no token for an answer: {self.num_dropped:,} rows")
            lines.append(
                f"  cut: {len(cuts):,} answers, by at most {cuts[:, 1].max(initial=0)} tokens; "
                f"{self.num_short:,} keep fewer than {SHORT}"
            )
        if self.batch_size is not None and len(self.kept) and counts.rejected.any():
            shuffled, grouped = self.padding
            lines.append(
                f"Padding in batches of {self.batch_size}: {shuffled:.1%} in random order, {grouped:.1%} with "
                '`train_sampling_strategy="group_by_length"`.'
            )
        if self.by_part:
            width = max(34, *(len(name) + 4 for name in self.by_part))
            heads = ("rows", "median", "max", "dropped", "cut")
            lines.append(f"{'By part, prompt and longer answer':{width}}" + "".join(f"{head:>8}" for head in heads))
            lines += [f"{f'  {name}':{width}}{part._line()}" for name, part in self.by_part.items()]
        return "\n".join(lines)

    def _line(self) -> str:
        """Of one part: rows, median and most tokens, rows dropped and answers cut."""
        middle, most = np.quantile(self.counts.longest, [0.5, 1], method="higher")
        numbers = (len(self.counts), middle, most, self.num_dropped, len(self.cuts))
        return "".join(f"{number:8,}" for number in numbers)


def keep_fitting(dataset: Dataset, report: FitReport, overlong: str = "drop") -> Dataset:
    """
    Drop or refuse rows whose prompt leaves no room for an answer. Image tokens are never cut.

    Args:
        dataset (`datasets.Dataset`): rows in the row format.
        report ([`FitReport`]): how they fit.
        overlong (`str`, *optional*, defaults to `"drop"`): `"drop"` or `"error"`.

    Returns:
        `datasets.Dataset`: rows whose prompt has fewer than `max_length` tokens, those of `report.kept`.

    Raises:
        ValueError: with `overlong="error"` if a row does not fit; with `"drop"` if none does.
    """
    lengths, limit = report.counts.prompt, report.max_length
    if report.num_dropped:
        found = (
            f"{report.num_dropped} of {len(dataset)} rows of the {report.name} dataset have a prompt of `max_length` "
            f"({limit}) tokens or more, the longest {lengths.max()} (row {lengths.argmax()})"
        )
        if overlong == "error" or report.num_dropped == len(dataset):
            raise ValueError(
                f"{found}. Image tokens are never cut: raise `max_length`, use smaller images, or set "
                "`overlong='drop'` to train without the rows that do not fit."
            )
        logger.warning(f"{found}; they are dropped. Raise `max_length` to keep them.")
        dataset = dataset.select(np.flatnonzero(lengths < limit))
    if report.num_short:
        logger.warning(
            f"{report.num_short} answers of the {report.name} dataset are cut to fewer than {SHORT} tokens by "
            f"`max_length` ({limit}). Raise it to {report.fitting_max_length} to keep all answers whole."
        )
    return dataset
