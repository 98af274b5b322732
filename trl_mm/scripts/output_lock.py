"""One run at a time in an output folder: a second one would mix its files with those of the first.

The lock is one of the operating system, so a run that is killed leaves none that blocks, whatever file it leaves. On a
file system that several machines share it keeps their runs apart, too, if that file system passes locks on, as NFS
does, and Lustre with the mount option `flock`.
"""

import json
import os
import socket
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


LOCK = "_trl_mm.lock"  # transformers pushes no file to the Hub whose name begins so, and this one names the host


@contextmanager
def alone_in(**folders):
    """
    Keep other runs out of the folders of this one while the block runs. All processes of a run enter it, and none goes
    on before the main one, which has the locks.

    Args:
        **folders (`str` or `None`): setting that names a folder to the folder, which is made if it is not there, and
            removed again if nothing was put into it. `None` is no folder.

    Raises:
        OSError: another run is in one of the folders, or it cannot be made or written to. The other processes end
            without a further message.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    error = None
    with ExitStack() as held:
        if PartialState().is_main_process:
            places = {os.path.realpath(folder): name for name, folder in folders.items() if folder is not None}
            try:
                for folder, name in places.items():
                    held.enter_context(_folder(Path(folder), name))
                    held.enter_context(lock(Path(folder) / LOCK, f"`{name}` ({folders[name]})"))
            except OSError as refused:
                error = refused
        (is_refused,) = broadcast_object_list([error is not None])
        if error is not None:
            raise error
        if is_refused:
            sys.exit(2)
        yield


@contextmanager
def lock(path, what):
    """
    Hold a lock while the block runs.

    Args:
        path (`Path`): file of the lock, in a folder that exists; it is removed afterwards.
        what (`str`): what it stands for, in messages.

    Raises:
        OSError: another process holds it, or the file cannot be written.
    """
    from filelock import FileLock, Timeout

    holder = FileLock(path)
    try:
        holder.acquire(blocking=False)
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    except Timeout:
        raise BlockingIOError(
            f"{what} is in use by {_holder(path)}: two runs would mix their files. Wait for it to end, or name "
            "another folder."
        ) from None
    except (OSError, NotImplementedError) as error:
        holder.release()
        raise OSError(f"{what} cannot be used: {error}. Name a folder that can be written to.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: filelock looks whether the file that it has locked is still there
        holder.release()


def _holder(path):
    try:
        found = json.loads(path.read_text())
        return f"process {int(found['pid'])} on {found['host']}"
    except (OSError, ValueError, TypeError, KeyError):  # it is about to write it
        return "another process"


@contextmanager
def _folder(folder, name):
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "is a file" if isinstance(error, FileExistsError) else f"cannot be made: {error}"
        raise OSError(f"`{name}` ({folder}) {why}. Name another folder.") from error
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
