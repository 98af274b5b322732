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


def chair_synonyms() -> Path:
    """
    The synonyms.txt of CHAIR's authors, which has no licence: `TRL_MM_CHAIR_SYNONYMS` says where it is, or it is among
    the published data; skips the test where it is neither.
    """
    given = os.environ.get("TRL_MM_CHAIR_SYNONYMS")
    path = Path(given) if given else published("chair/synonyms.txt")
    if not path.is_file():
        pytest.skip(f"no synonyms of CHAIR's authors at {path}: set TRL_MM_CHAIR_SYNONYMS to their file")
    return path
