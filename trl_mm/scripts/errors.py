"""Runs a command and shows an error in what the user wrote as one line, in this process or in each of a launch."""

import logging
import os
import sys
import warnings

from .launched import end_with_launcher


# Where errors are about what the user wrote, so that their text says enough without a traceback.
EXPLAINING_MODULES = ("trl_mm", "trl", "accelerate", "transformers.training_args", "transformers.utils.hub")
LONGEST = 10_000  # characters of a message


def run_with_one_line_errors(run, *arguments):
    """
    Run a function and explain what it raises; with `TRL_MM_TRACEBACK=1` such errors come with their traceback.

    Args:
        run (`Callable`): the function.
        arguments: what it is called with.

    Returns:
        `int`: exit status; 0 on success, 2 when the command, a flag, the recipe or the data are at fault, 130 when
            it is stopped by Ctrl-C.
    """
    end_with_launcher()
    # TRL 1.16 and PEFT 0.21 use names that transformers has replaced; users can do nothing about it
    warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing(_\w+)?` is deprecated", FutureWarning)
    # PEFT imports bitsandbytes whether or not weights are quantized, and it then misses a kernel for CPUs
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        run(*arguments)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("TRL_MM_TRACEBACK") == "1" or not explains_itself(error):
            raise
        rank = os.environ.get("RANK", "0")
        from ..data.shown import printable

        text = str(error)
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]} … {len(text) - LONGEST:,} more characters"
        # What data and file names say must not reach the terminal as commands to it
        text = printable(text, keep="\n\t")
        print(f"{'' if rank == '0' else f'[process {rank}] '}error: {text}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt as stopped:
        if os.environ.get("RANK", "0") == "0":
            # What trains or writes shards says how far it came
            print(f"\n{str(stopped) or 'Stopped.'}", file=sys.stderr, flush=True)
        return 130
    return 0


def explains_itself(error):
    """Whether an error was raised where its text is written for users (`bool`)."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "")
    if module == "__main__":  # a script that was started as a module
        module = getattr(traceback.tb_frame.f_globals.get("__spec__"), "name", "")
    return any(f"{module}.".startswith(f"{name}.") for name in EXPLAINING_MODULES)
