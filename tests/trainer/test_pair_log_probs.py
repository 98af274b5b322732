import copy
import math

import pytest
import torch
from support.families import FAMILIES, family
from support.rows import image_dataset, said
from support.tiny import tiny_image, tiny_model, tiny_processor, tiny_row

from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.tokens.lengths import count_tokens
from trl_mm.trainer.pair_log_probs import pair_log_probs
from trl_mm.trainer.prefix_sharing import shared_forward


PROCESSOR = tiny_processor()
ROWS = [
    tiny_row(0, rejected=said("There is a dog.")),
    tiny_row(1, "Yes.", rejected=said("No, there is none. The sky is blue!"), size=(90, 30)),
    tiny_row(2, "A dog.", rejected=said("A dog.")),
    {**tiny_row(3, "Is it?", rejected=said("It is late.")), "images": [tiny_image(3), tiny_image(4)]},
    {**tiny_row(4, "None.", rejected=said("A cat.")), "images": []},
]


def plain(row, name):
    """Log-probability, tokens and share of first choices of one answer, by the logits of plain transformers."""
    batch = PreferenceCollator(PROCESSOR).of_one_answer([{**row, "chosen": row[name]}])
    answer = batch.pop("completion_mask")[0, 1:].bool()
    with torch.no_grad():
        logits = tiny_model(scale=6)(**batch).logits[0, :-1]
    predicted = batch["input_ids"][0, 1:]
    log_probs = logits.log_softmax(-1).gather(1, predicted[:, None])[:, 0]
    return log_probs[answer].sum().item(), int(answer.sum()), (logits.argmax(-1) == predicted)[answer].float().mean()


def scored(**settings):
    dataset = image_dataset(ROWS)
    return pair_log_probs(tiny_model(scale=6), PROCESSOR, dataset, count_tokens(dataset, PROCESSOR), **settings)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_values_are_those_of_plain_transformers_in_the_order_of_the_rows(shared, batch_size, monkeypatch):
    if not shared:
        monkeypatch.setattr("trl_mm.trainer.pair_log_probs.unsupported_reason", lambda model: "of this test")
    found = scored(batch_size=batch_size)
    for name in ("chosen", "rejected"):
        sums, tokens, likeliest = zip(*(plain(row, name) for row in ROWS), strict=True)
        assert getattr(found, name) == pytest.approx(sums, abs=1e-3)
        assert getattr(found, f"{name}_tokens") == list(tokens)
        assert getattr(found, f"{name}_likeliest") == pytest.approx(list(map(float, likeliest)), abs=1e-6)
    assert found.identical == [False, False, True, False, False]
    assert found.rows == list(range(5))


@pytest.mark.parametrize("name", FAMILIES)
def test_families_score_alike_with_and_without_shared_prompts(name, monkeypatch):
    # Some processors take no batch of rows with images and rows without
    dataset = image_dataset([row for row in ROWS if row["images"]])
    scores = []
    for shared in (True, False):
        model, processor = family(name)
        if not shared:
            monkeypatch.setattr("trl_mm.trainer.pair_log_probs.unsupported_reason", lambda model: "of this test")
        counts = count_tokens(dataset, processor)
        scores.append(pair_log_probs(copy.deepcopy(model).eval(), processor, dataset, counts, batch_size=2))
    assert scores[0].chosen == pytest.approx(scores[1].chosen, abs=2e-3)
    assert scores[0].rejected == pytest.approx(scores[1].rejected, abs=2e-3)
    assert scores[0].chosen_tokens == scores[1].chosen_tokens and len({*scores[0].chosen}) == 4


def test_prompts_are_computed_once(monkeypatch):
    seen = []
    pack = shared_forward.pack_pairs
    monkeypatch.setattr(shared_forward, "pack_pairs", lambda ids, *more: seen.append(len(ids)) or pack(ids, *more))
    scored(batch_size=2)
    assert seen == [4, 4, 2]


def test_a_broken_model_is_named():
    model, dataset = tiny_model(), image_dataset(ROWS[:1])
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    with pytest.raises(ValueError, match=r"Row 0: mine gives a log-probability that is not finite"):
        pair_log_probs(model, PROCESSOR, dataset, count_tokens(dataset, PROCESSOR), name="mine")
