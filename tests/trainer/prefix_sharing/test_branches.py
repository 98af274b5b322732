"""Answers laid out as branches, and what is read back of them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.trainer.prefix_sharing.branches import branch_order, lay_out
from trl_mm.trainer.prefix_sharing.packing import pack_pairs


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_every_answer_has_its_branch(numbers):
    order = branch_order(numbers)
    assert sorted(answer for branch in order for answer in branch if answer >= 0) == list(range(len(numbers)))
    assert min(order[0]) >= 0 and len(order) == max(map(numbers.count, numbers))
    for branch in order:
        for first, answer in zip(order[0], branch, strict=True):
            assert answer < 0 or numbers[answer] == numbers[first]


@st.composite
def batches(draw):
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    prompts = [{"input_ids": torch.arange(1, length + 1)[None] + 100 * n} for n, length in enumerate(lengths)]
    numbers = draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    answers = draw(st.lists(st.integers(0, 4), min_size=len(numbers), max_size=len(numbers)))
    width = max(1, *answers) if answers else 1
    mask = (torch.arange(width) < torch.tensor(answers)[:, None]).long()
    ids = 1000 + torch.arange(len(numbers) * width).view(len(numbers), width)
    return prompts, numbers, ids, mask


@given(batches(), st.booleans())
def test_what_predicts_a_token_is_read_back_in_its_place(batch, shares):
    prompts, numbers, ids, mask = batch
    laid_out = lay_out(prompts, numbers, ids, mask, 0, shares)
    tokens = laid_out.inputs["input_ids"]
    assert torch.equal(laid_out.per_answer(tokens[:, 1:]), ids * mask)
    ends = laid_out.per_answer(tokens[:, :-1])  # what stands before each token
    for number, length in enumerate(mask.sum(1).tolist()):
        before = [prompts[numbers[number]]["input_ids"][0, -1].item(), *ids[number].tolist()][:length]
        assert ends[number, :length].tolist() == before
    if not shares:
        assert laid_out.num_branches == 1 and laid_out.rows.tolist() == list(range(len(numbers)))


@given(batches())
def test_packing_shows_the_model_each_prompt_once(batch):
    prompts, numbers, ids, mask = batch
    laid_out = lay_out(prompts, numbers, ids, mask, 0)
    packed = pack_pairs(laid_out.inputs["input_ids"], laid_out.labels, laid_out.num_branches)
    order = list(dict.fromkeys(numbers))
    for row, number in enumerate(order):
        shown = packed.input_ids[row][packed.branch[row] == 0]
        assert shown.tolist() == prompts[number]["input_ids"][0, :-1].tolist()
    values = packed.unpack(packed.predicted)
    assert torch.equal(laid_out.per_answer(values), ids * mask)
