"""What the bar says of rows, speed and time left."""

import pytest

from trl_mm.bdhs.progress import Progress


def pairs(*attempts):
    return [{"bdhs_attempts": attempt} for attempt in attempts]


@pytest.mark.parametrize(("num_rows", "world_size", "share"), [(11, 1, 11), (11, 3, 4), (5, 3, 2), (0, 1, 0)])
def test_the_bar_is_over_the_share_of_the_first_process(num_rows, world_size, share, capsys):
    with Progress(num_rows, 2, 0, world_size) as progress:
        assert progress.bar.total == share
    with Progress(num_rows, 2, 1, world_size) as other:
        assert other.bar.disable


def test_finished_rows_count_but_not_for_the_speed(capsys):
    with Progress(5, 2, 0, 1) as progress:
        progress.on_shard(0, 2)
        assert (progress.bar.n, progress.bar.initial) == (2, 2)
        assert "answers/s" not in str(progress.bar)
        progress.count(pairs(1, 5), 0.5)
        progress.on_shard(1, 2)
        progress.count(pairs(1), 1.0)
        progress.on_shard(2, 1)
        assert (progress.bar.n, progress.bar.initial) == (5, 2)
        assert "5/5 rows" in str(progress.bar)
        assert "2 answers/s, attempt 1: 67%, attempt 5: 33%" in str(progress.bar)


@pytest.mark.parametrize("max_rows", [None, 7])
def test_rows_of_a_stream_are_counted_as_they_are_read(max_rows, capsys):
    with Progress(max_rows, 2, 0, 2) as progress:
        assert progress.bar.total == (None if max_rows is None else 4)
        rows = progress.counted("abc")
        assert [next(rows), next(rows)] == ["a", "b"]
        progress.count(pairs(1, 1), 0.5)
        progress.on_shard(0, 2)
        assert list(rows) == ["c"]
        progress.on_shard(1, 1)
        assert progress.bar.n == 3
