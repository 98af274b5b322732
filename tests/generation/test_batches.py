from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_processor, tiny_row

from trl_mm.generation import Completer, Request, SamplingSettings
from trl_mm.generation.batches import batches, same_prompts


LENGTHS = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)), max_size=30)


@given(LENGTHS, st.integers(1, 6), st.integers(1, 9), st.integers(1, 900))
def test_batches_hold_every_group_once_within_their_bounds(lengths, group_size, batch_size, max_tokens):
    indices = list(range(len(lengths)))
    groups = [indices[start : start + group_size] for start in indices[::group_size]]
    found = batches(groups, lengths, SamplingSettings(batch_size=batch_size, max_batch_tokens=max_tokens))
    assert sorted(group for batch in found for group in batch) == groups
    for batch in found:
        members = [lengths[index] for group in batch for index in group]
        tokens = len(members) * (max(prompt for prompt, _ in members) + max(rest for _, rest in members))
        assert len(batch) == 1 or (len(members) <= batch_size and tokens <= max_tokens)


def test_batches_are_as_large_as_they_may_be_and_of_similar_length():
    lengths = [(10, 2), (90, 2), (10, 1), (91, 1), (10, 2)]
    settings = SamplingSettings(batch_size=3, max_batch_tokens=186)
    assert batches([[index] for index in range(5)], lengths, settings) == [[[2], [0], [4]], [[1], [3]]]
    assert batches([], [], settings) == []


def test_requests_belong_together_if_they_show_the_same_of_the_same_prompt():
    first, second = Completer(tiny_processor()).prompts([tiny_row(0), tiny_row(0)])
    some, other = first.is_image[:5], first.is_image[:5].clone()
    requests = [Request(first), Request(second), Request(first, " A"), Request(first, visible=some)]
    requests += [Request(first, visible=other), Request(first, " A", visible=some)]
    assert same_prompts(requests) == [[0, 2], [1], [3, 5], [4]]
    first.is_image[-1] = True  # what follows cannot be computed from the id of its last token
    assert same_prompts(requests[:3]) == [[0], [1], [2]]
