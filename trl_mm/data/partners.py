"""How processes that share work out, such as pairs to be made, wait for one another.

The share of one may take hours longer than that of another, so no time limit on the work tells a slow process from a
dead one. Each gives signs of life from a thread instead, and only one that is silent for long is given up.
"""

import atexit
import itertools
import os
import threading
import time


LONGEST_PAUSE = 10.0  # seconds between two signs of life
_WORKS = itertools.count()


def partners_of(state, timeout):
    """
    The [`Partners`] of a process, which gives signs of life from now on.

    Args:
        state (`accelerate.PartialState`): which process of how many it is. Where nothing says how to reach the others
            (MASTER_ADDR), it is taken for the only one, and whoever waits has to do so in another way.
        timeout (`float`): as in [`Partners`].
    """
    if state.num_processes == 1 or "MASTER_ADDR" not in os.environ:
        return Partners(None, 0, 1, timeout)
    from torch.distributed import PrefixStore, TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    # All processes come here equally often; what those of an earlier work have said must not count for this one
    work = f"trl_mm/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_WORKS)}"
    partners = Partners(PrefixStore(work, store), state.process_index, state.num_processes, timeout)
    thread = threading.Thread(target=partners.give_signs_of_life, daemon=True)
    thread.start()
    atexit.register(_end, partners, thread)
    return partners


def _end(partners, thread):
    """End the signs of life: a thread that comes back from the store while Python shuts down aborts the process."""
    partners.leave()
    thread.join(LONGEST_PAUSE)  # the store may not answer any more


class Partners:
    """
    The processes of a run, which say to one another that they live and how far they are.

    Args:
        store (`torch.distributed.Store`): what they share.
        rank (`int`): this process.
        world_size (`int`): number of processes.
        timeout (`float`): seconds without a sign of life after which a process counts as dead.
        clock (`Callable`, *optional*): seconds that have passed.
        pause (`Callable`, *optional*): waits for some seconds.
    """

    def __init__(self, store, rank, world_size, timeout, clock=time.monotonic, pause=None):
        self.store, self.rank, self.world_size, self.timeout = store, rank, world_size, timeout
        self.round, self._left = 0, threading.Event()
        self.clock, self.pause, self.interval = clock, pause or self._left.wait, min(LONGEST_PAUSE, timeout / 10)

    @property
    def lives(self):
        """Whether it gives signs of life (`bool`)."""
        return not self._left.is_set()

    def leave(self):
        """Give no more signs of life."""
        self._left.set()

    def give_signs_of_life(self):
        """Goes on until the process leaves, or the store ends."""
        try:
            while self.lives:
                self.store.add(f"alive/{self.rank}", 1)
                self.pause(self.interval)
        except RuntimeError:  # the store has ended, and with it the run
            pass

    def wait(self):
        """
        Wait until all processes have come here as often as this one, however long it takes those that live.

        Raises:
            ConnectionError: one of them is silent.
        """
        if self.world_size == 1:
            return
        self.round += 1
        heard = {}
        try:
            self.store.add(f"at/{self.rank}", 1)
            while missing := [r for r in range(self.world_size) if self.store.add(f"at/{r}", 0) < self.round]:
                for rank in missing:
                    signs, now = self.store.add(f"alive/{rank}", 0), self.clock()
                    if rank not in heard or heard[rank][0] != signs:
                        heard[rank] = signs, now
                    elif now - heard[rank][1] > self.timeout:
                        raise ConnectionError(
                            f"Process {rank} has given no sign of life for {self.timeout:g} seconds "
                            "(`process_timeout`): it is dead or stopped. Run the same command again; what is "
                            "finished is kept."
                        )
                self.pause(self.interval)
        except RuntimeError as error:
            raise ConnectionError(f"The main process has ended: {error}. Run the same command again.") from error
