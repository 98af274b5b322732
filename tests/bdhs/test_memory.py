"""Memory does not grow with the number of rows, of a dataset or a stream."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

# Pairs without a model, in a process of its own; prints at which row how much memory it holds, in kB. Not the resident
# size: that of a dataset contains what it has read from its file, which the system takes back when it needs to.
CODE = """
import json, sys
from trl_mm import BDHSConfig, load_preferences
from trl_mm.bdhs.dataset import make_pairs
from trl_mm.data.streaming import stream_preferences

folder, kind = sys.argv[1:]
seen, used = 0, []

class Sampler:
    config = BDHSConfig(similarity="lexical")

    def __call__(self, model, rows):
        global seen
        seen += len(rows)
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        used.append((seen, int(status["RssAnon"].split()[0])))
        known = {"bdhs_attempts": 1, "bdhs_similarity": 0.5, "bdhs_guided": True}
        return [{**row, "rejected": row["chosen"], **known} for row in rows]

load = {"map": load_preferences, "stream": stream_preferences}[kind]
rows = load(f"{folder}/rows.jsonl", needs=("images", "prompt", "chosen"))
make_pairs(None, Sampler(), rows, f"{folder}/pairs", {}, shard_size=100)
print(json.dumps(used))
"""


@pytest.mark.parametrize(
    ("num_rows", "kind"),
    [
        (3_000, "stream"),
        pytest.param(10_000, "stream", marks=pytest.mark.slow),
        pytest.param(10_000, "map", marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, num_rows, kind):
    rng = np.random.default_rng(0)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for index in range(num_rows):
            # 12 kB each when it is decoded, 120 MB all together
            PIL.Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"{index}.jpg")
            row = {"images": [f"{index}.jpg"], "prompt": "Describe the image.", "chosen": f"Number {index}. " * 20}
            file.write(json.dumps(row) + "\n")
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path), kind],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    used = json.loads(result.stdout)
    assert used[-1][0] == num_rows
    early = max(kilobytes for row, kilobytes in used if row <= 1_000)
    assert max(kilobytes for _, kilobytes in used) - early < 12_000
