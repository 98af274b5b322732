"""What a process knows of the launcher that has started it."""

import ctypes
import os
import signal
import sys


LAUNCHER = "TRL_MM_LAUNCHER"  # environment variable: process id of a launcher of ours
_PR_SET_PDEATHSIG = 1


def end_with_launcher():
    """
    Have this process end when the launcher that started it dies, whatever it dies of: processes that go on alone would
    write into the folders of the next run, and wait for one another. Does nothing in a process that has no launcher,
    or where there is no such signal (elsewhere than on Linux).
    """
    launcher = os.environ.get(LAUNCHER)
    # torch's launcher, which is also that of `accelerate launch`, says so to the processes that it starts
    is_launched = launcher == str(os.getppid()) or "TORCHELASTIC_RUN_ID" in os.environ
    if is_launched and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if launcher is not None and not _is_alive(int(launcher)):
        sys.exit(1)  # it died before this process could ask for the signal


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
