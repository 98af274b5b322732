"""Trees of sequences beside what they mean, spelled out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.tokens.prefix_tree import border, packed_size, prefix_tree


SEQUENCES = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=6)


def arrays(sequences):
    return [np.array(ids, np.int64) for ids in sequences]


def test_what_sequences_begin_with_stands_once():
    tree = prefix_tree(arrays([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7], [1, 2, 9], [1, 2, 9], []]))
    assert tree.sequence.tolist() == [0, 0, 0, 0, 0, 1, 1, 2]
    assert tree.place.tolist() == [0, 1, 2, 3, 4, 4, 5, 2]
    assert tree.until.tolist() == [8, 8, 7, 7, 5, 7, 7, 8]
    assert tree.segment.tolist() == [0, 0, 1, 1, 2, 3, 3, 4]
    assert [found.tolist() for found in tree.found] == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 5, 6], [0, 1, 7], [0, 1, 7], []]
    assert tree.root == 2 and len(tree) == 8


@given(SEQUENCES)
def test_every_prefix_stands_once_and_reaches_what_goes_on_from_it(sequences):
    tree = prefix_tree(arrays(sequences))
    prefixes = [tuple(sequences[row][: place + 1]) for row, place in zip(tree.sequence, tree.place, strict=True)]
    assert len(set(prefixes)) == len(prefixes)
    assert set(prefixes) == {tuple(ids[:end]) for ids in sequences for end in range(1, len(ids) + 1)}
    for number, ids in enumerate(sequences):
        assert [prefixes[place] for place in tree.found[number]] == [tuple(ids[: end + 1]) for end in range(len(ids))]
    for key, prefix in enumerate(prefixes):
        reached = [query for query in range(len(prefixes)) if key <= query < tree.until[key]]
        assert reached == [query for query, other in enumerate(prefixes) if other[: len(prefix)] == prefix]
    begun = [ids for ids in sequences if ids]
    assert all(ids[: tree.root] == begun[0][: tree.root] for ids in begun)


def test_trees_are_rows_with_one_border():
    equal, other = prefix_tree(arrays([[1, 2, 3, 4, 5]] * 2)), prefix_tree(arrays([[1, 2, 3, 7], [1, 2, 3, 8]]))
    assert (equal.root, other.root) == (5, 3)
    borders = [border(equal, [3, 3]), border(other, [3, 3])]  # an answer behind three tokens each
    assert borders == [3, 3] and packed_size([equal, other], borders) == (3, 5)
