"""Log-probabilities of both answers of pairs, outside of training, by the way that the loss computes them."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin
from trl.trainer.utils import add_fused_lm_head

from ..data.pair_statistics import answer_text
from ..data.shown import shown
from ..data.tables import undecoded
from ..report.log_probs import PairLogProbs
from ..tokens.collator import PreferenceCollator
from ..tokens.lengths import TokenCounts
from .prefix_sharing.shared_forward import share_prefixes, unsupported_reason


def pair_log_probs(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    counts: TokenCounts,
    *,
    name: str = "the model",
    batch_size: int = 4,
) -> PairLogProbs:
    """
    Score both answers of all pairs. Prompts are computed once for both, where the model can share them
    ([`share_prefixes`]); nothing is cut.

    Args:
        model ([`~transformers.PreTrainedModel`]): model in eval mode. Its forward gets TRL's fused LM head.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        dataset (`datasets.Dataset`): preference rows whose images can be read.
        counts ([`TokenCounts`]): their tokens, by which pairs of similar length go together, the longest ones first.
        name (`str`, *optional*, defaults to `"the model"`): name of the model.
        batch_size (`int`, *optional*, defaults to `4`): pairs that go through the model together.

    Returns:
        [`PairLogProbs`]: in the order of the rows.

    Raises:
        ValueError: a log-probability is not finite.
    """
    add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
    sharing = unsupported_reason(model) is None
    if sharing:
        share_prefixes(model)
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    collator = PreferenceCollator(processor, images_per_prompt=sharing)
    rows = undecoded(dataset)
    order = sorted(range(len(rows)), key=lambda index: -counts.total[index])
    scored: list[tuple[float, ...]] = [()] * len(rows)
    with tqdm(total=len(rows), desc=name, unit="pair") as bar:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            examples = [rows[index] for index in batch]
            for index, row, values in zip(batch, examples, _scores(model, collator(examples)), strict=True):
                if not all(map(math.isfinite, values)):
                    raise ValueError(
                        f"Row {shown(str(row['row_id']))}: {name} gives a log-probability that is not finite. Load "
                        "it in another data type (`--dtype float32`), or train it anew if its weights are broken."
                    )
                scored[index] = values
            bar.update(len(batch))
    return _collected(name, rows, scored)


def _scores(model: PreTrainedModel, batch: dict[str, Any]) -> Iterator[tuple[float, ...]]:
    """For each pair: log-probability, tokens and share of first choices, of chosen and of rejected."""
    completion_mask = batch.pop("completion_mask")
    labels = batch["input_ids"].masked_fill(completion_mask == 0, -100)  # (2B, L)
    inputs = {
        name: value.to(model.device, model.dtype) if value.is_floating_point() else value.to(model.device)
        for name, value in batch.items()
    }
    with torch.no_grad():
        outputs = model(**inputs, labels=labels.to(model.device), fused_lm_head=True, use_cache=False)
    tokens = completion_mask[:, 1:].sum(1)  # (2B,)
    sums = outputs.log_probs.float().sum(1).cpu()  # (2B,)
    likeliest = outputs.is_top1.float().sum(1).cpu() / tokens.clamp(min=1)  # (2B,)
    columns = [half.tolist() for values in (sums, tokens, likeliest) for half in values.chunk(2)]
    yield from zip(*columns, strict=True)


def _collected(name: str, rows: Dataset, scored: Sequence[tuple[float, ...]]) -> PairLogProbs:
    texts = rows.select_columns(["chosen", "rejected"])
    result = PairLogProbs(name, list(range(len(rows))))
    for row, (chosen, rejected, chosen_tokens, rejected_tokens, chosen_top, rejected_top) in zip(
        texts, scored, strict=True
    ):
        result.identical.append(answer_text(row["chosen"]) == answer_text(row["rejected"]))
        result.chosen.append(chosen)
        result.rejected.append(rejected)
        result.chosen_tokens.append(int(chosen_tokens))
        result.rejected_tokens.append(int(rejected_tokens))
        result.chosen_likeliest.append(chosen_top)
        result.rejected_likeliest.append(rejected_top)
    return result
