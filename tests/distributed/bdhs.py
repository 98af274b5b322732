"""Runs `trl-mm bdhs` and lets the disk fail in the middle: what the tests start, alone or through `accelerate launch`.

`bdhs.py seconds rank harm count flags…`: in the process of this rank the file number `count` does not get on the disk:
`kill` ends the process there as `kill -9` does, `full` finds no space left, `none` does nothing. After `seconds` the
process ends itself with a traceback of where it hangs.
"""

import errno
import faulthandler
import os
import signal
import sys

from trl_mm.scripts.bdhs import main


def let_fail(harm, count):
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(descriptor)
        if len(synced) == count and harm == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if len(synced) >= count and harm == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    os.fsync = fsync


if __name__ == "__main__":
    seconds, rank, harm, count, *flags = sys.argv[1:]
    faulthandler.dump_traceback_later(int(seconds), exit=True)
    if rank == os.environ.get("RANK", "0"):
        let_fail(harm, int(count))
    main(flags)
