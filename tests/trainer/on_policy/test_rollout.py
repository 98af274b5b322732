"""Samples, the prompts that they belong to, and their order."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_processor, tiny_row

from trl_mm.trainer.on_policy.rollout import Rollout, new_rollout, steps_of, whole_groups


def rollout(numbers):
    return Rollout([], [], list(numbers), list(range(len(numbers))))


def test_a_process_may_begin_and_end_within_a_group():
    rows = [tiny_row(seed) for seed in (0, 0, 1, 1, 1, 1, 2, 2)]
    found = new_rollout(rows, tiny_processor(), first=2, num_generations=4)
    assert found.numbers == [0, 0, 1, 1, 1, 1, 2, 2]
    assert found.places == [2, 3, 0, 1, 2, 3, 0, 1]
    assert [row["row_id"] for row in found.rows] == ["0", "1", "2"] and len(found.prompts) == 3


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers())
def test_steps_have_all_samples_and_keep_groups(num_steps, num_groups, group, seed):
    numbers = [number for number in range(num_groups * num_steps) for _ in range(group)]
    batch = {"ids": torch.arange(len(numbers)), "rollout": rollout(numbers)}
    steps = steps_of(batch, num_steps, (seed,))
    assert sorted(sample for step in steps for sample in step["ids"].tolist()) == list(range(len(numbers)))
    for step in steps:
        assert len(step["ids"]) == len(numbers) // num_steps
        assert [numbers[sample] for sample in step["ids"]] == step["rollout"].numbers
        assert all(step["rollout"].numbers.count(number) == group for number in step["rollout"].numbers)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 8))
def test_parts_keep_groups_whole(sizes, most):
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    parts = whole_groups(numbers, most)
    assert [sample for part in parts for sample in part] == list(range(len(numbers)))
    for part in parts:
        held = {numbers[sample] for sample in part}
        assert len(part) <= most or len(held) == 1
        assert len(part) == sum(sizes[number] for number in held)
