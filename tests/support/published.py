"""Published data that tests compare with. It is no part of the repository: without it such tests are skipped."""

import os
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]


def published(name: str) -> Path:
    """Path of a file or folder of the published data; skips the test that asks where there is none."""
    folder = Path(os.environ.get("TRL_MM_PUBLISHED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no published data at {folder}: set TRL_MM_PUBLISHED_DATA to their folder")
    return folder / name
