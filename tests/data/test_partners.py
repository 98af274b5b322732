import subprocess
import sys

import pytest
from torch.distributed import HashStore

from trl_mm.data.partners import Partners


def partners(store, rank, pause):
    clock = [0.0]

    def wait(seconds):
        clock[0] += seconds
        pause(clock[0])

    return Partners(store, rank, 2, 100.0, clock=lambda: clock[0], pause=wait)


def test_a_slow_process_is_waited_for_while_it_lives():
    store = HashStore()
    other = Partners(store, 1, 2, 100.0)

    def pause(now):
        store.add("alive/1", 1)
        if now > 100_000:
            store.add("at/1", 1)

    waiting = partners(store, 0, pause)
    waiting.wait()
    assert waiting.clock() > 100_000 and other.world_size == 2


def test_a_silent_process_is_an_error():
    waiting = partners(HashStore(), 0, lambda now: None)
    with pytest.raises(ConnectionError, match="Process 1 has given no sign of life for 100 seconds"):
        waiting.wait()
    assert 100 < waiting.clock() < 200


def test_each_wait_is_one_of_its_own():
    store = HashStore()
    store.add("at/1", 1)
    waiting = partners(store, 0, lambda now: None)
    waiting.wait()
    with pytest.raises(ConnectionError):
        waiting.wait()


def test_signs_of_life_end_with_the_work():
    store, seen = HashStore(), []

    def pause(seconds):
        seen.append(store.add("alive/0", 0))
        if len(seen) == 3:
            living.leave()

    living = Partners(store, 0, 2, 100.0, pause=pause)
    living.give_signs_of_life()
    assert seen == [1, 2, 3]


def test_a_process_that_ends_while_it_gives_signs_of_life_ends_well():
    # Without a pause between them, one is on its way at every moment
    script = """
import os
from types import SimpleNamespace
from torch.distributed import TCPStore
from trl_mm.data.partners import partners_of

store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port))
works = [partners_of(SimpleNamespace(num_processes=2, process_index=0), timeout=0) for _ in range(4)]
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
