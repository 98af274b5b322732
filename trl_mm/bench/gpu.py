"""
All that is to be known of a GPU, in one go of less than 8 minutes: `python -m trl_mm.bench.gpu`.

What is unusual in it: each stage is a process of its own with a time limit, and what is known is written after each,
so that one which fails or hangs costs only itself. A table comes last.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


TOTAL = 470  # seconds
_SEVEN_B = "--size 7b --dtype bfloat16"
_TRAINING = f"{_SEVEN_B} --use_peft true --memory false"
_TINY = "--size tiny --image_size 56x56 --rounds 1"
_TINY_TRAINING = f"{_TINY} --memory false --use_peft true"


@dataclass(frozen=True)
class Stage:
    """
    One call of `trl-mm bench`.

    Args:
        command (`str`): its arguments.
        tiny (`str`): its arguments on a CPU, to see that all works.
        limit (`int`): seconds that it may take.
        rows (`Callable`): from its figures to lines of the table, `list[tuple[str, float, str]]`: what, how much, and
            the format of the number.
    """

    command: str
    tiny: str
    limit: int
    rows: Callable


def main(argv=None):
    """Run the stages. Returns 0 if all ended well, else 1."""
    parser = argparse.ArgumentParser(prog="python -m trl_mm.bench.gpu", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--output_dir", type=Path, default=Path("gpu"), help="Folder for figures and logs.")
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES), help="Stages, in order.")
    parser.add_argument("--tiny", action="store_true", help="Tiny models, also on a CPU, to see that all works.")
    args = parser.parse_args(argv)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    begin, results = time.monotonic(), {}
    for name in args.stages:
        left = TOTAL - (time.monotonic() - begin)
        print(f"{name} ...", flush=True)
        results[name] = run(name, args.output_dir, args.tiny, min(STAGES[name].limit, left))
        (args.output_dir / "gpu.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(table(results))
    return int(any("error" in result for result in results.values()))


def run(name, folder, tiny, limit):
    """
    Run one stage.

    Args:
        name (`str`): key of `STAGES`.
        folder (`Path`): takes its figures and its log.
        tiny (`bool`): whether to run it with tiny models.
        limit (`float`): seconds after which it is stopped.

    Returns:
        `dict[str, Any]`: `seconds`, and either `figures` (of the benchmark) or `error`.
    """
    stage, begin = STAGES[name], time.monotonic()
    if limit <= 0:
        return {"seconds": 0.0, "error": f"no time was left of {TOTAL} s"}
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    file.unlink(missing_ok=True)
    arguments = [*(stage.tiny if tiny else stage.command).split(), "--json", str(file)]
    with open(log, "w", encoding="utf-8") as output:
        # A session of its own, so that loader workers end with it
        process = subprocess.Popen([*COMMAND, *arguments], stdout=output, stderr=output, start_new_session=True)
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = round(time.monotonic() - begin, 1)
    if code is None:
        return {"seconds": seconds, "error": f"stopped after {limit:.0f} s, see {log}"}
    if code or not file.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return {"seconds": seconds, "error": f"exit {code}, see {log}: {lines[-1] if lines else 'no output'}"}
    return {"seconds": seconds, "figures": json.loads(file.read_text(encoding="utf-8"))}


def table(results):
    """The figures as text (`str`): a line for each, with what failed."""
    lines, devices = [], set()
    for name, result in results.items():
        if "error" in result:
            lines.append(f"{name:10} {result['error']}")
            continue
        devices.add(result["figures"]["device"])
        lines += [f"{name:10} {what:58}{value:{form}}" for what, value, form in STAGES[name].rows(result["figures"])]
        lines.append(f"{name:10} {'seconds for all of it':58}{result['seconds']:10.0f}")
    return "\n".join([f"device: {', '.join(sorted(devices)) or 'none'}", *lines])


def _dpo_rows(figures):
    rows = []
    for name, side in figures["sides"].items():
        clock = side["wall_clock"]
        rows += [
            (f"{name}: seconds per step of train()", clock["seconds_per_step"], "10.2f"),
            (f"{name}: of these, waiting for batches", clock["loader_wait"], "10.2f"),
            (f"{name}: share of the floor in a step", side["share_of_floor"], "10.0%"),
        ]
        if side["device_seconds"]:  # without the optimizer
            rows.append((f"{name}: seconds that the GPU is busy", side["device_seconds"], "10.2f"))
            share = figures["floor"]["seconds"] / side["device_seconds"]
            rows.append((f"{name}: floor, of the time that the GPU is busy (goal 60%)", share, "10.0%"))
    if "wall_ratio" in figures:
        rows.append(("train(): times as fast as TRL's (goal 2)", figures["wall_ratio"], "10.2f"))
    return rows


def _rounding_rows(figures):
    return [
        (f"{name}: distance of losses from a float32 run", side["from_float32"], "10.1e")
        for name, side in figures["sides"].items()
    ]


def _online_rows(figures):
    token = figures["sides"]["trl_mm"]["sampling_seconds"] / figures["settings"]["new_tokens"]
    return [
        ("milliseconds for a sampled token at batch 2 (goal 15)", 1000 * token, "10.1f"),
        ("times as fast as TRL without checkpointing (goal 3)", figures["ratio"], "10.2f"),
    ]


def _rloo_rows(figures):
    side = figures["sides"]["trl_mm"]
    return [
        ("trl_mm: seconds per step, 4 answers", side["seconds_per_step"], "10.2f"),
        ("trl_mm: of these, sampling", side["sampling_seconds"], "10.2f"),
    ]


def _bdhs_rows(figures):
    return [
        ("answers per second (goal 60)", figures["sides"]["trl_mm"]["answers_per_second"], "10.1f"),
        ("share of equal answers", figures["equal_answers"], "10.0%"),
    ]


COMMAND = (sys.executable, "-m", "trl_mm.cli.main", "bench")
STAGES = {
    "dpo": Stage(
        f"dpo {_TRAINING} --rounds 3 --one_at_a_time true --float32_run false",
        f"dpo {_TINY_TRAINING} --one_at_a_time true",
        125,
        _dpo_rows,
    ),
    "bdhs": Stage(
        f"bdhs {_SEVEN_B} --rows 256 --rounds 1 --naive_rows 1",
        f"bdhs {_TINY} --rows 4 --sentences 2 --max_sentence_tokens 4",
        70,
        _bdhs_rows,
    ),
    "online": Stage(
        f"online-dpo {_TRAINING} --rounds 2 --gradient_checkpointing false",
        f"online-dpo {_TINY_TRAINING} --new_tokens 4 --gradient_checkpointing false",
        90,
        _online_rows,
    ),
    "rloo": Stage(
        f"rloo {_TRAINING} --rounds 1 --vs none",
        f"rloo {_TINY_TRAINING} --new_tokens 4 --vs none",
        40,
        _rloo_rows,
    ),
    "rounding": Stage(
        "dpo --dtype bfloat16 --use_peft true --memory false --wall_clock false --rounds 9",
        f"dpo {_TINY_TRAINING} --dtype bfloat16 --wall_clock false",
        45,
        _rounding_rows,
    ),
    "compiled": Stage(
        f"dpo {_TRAINING} --rounds 4 --vs none --torch_compile true --float32_run false",
        f"dpo {_TINY_TRAINING} --vs none",
        100,
        _dpo_rows,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
