"""What holds for the whole session: no network, no cache of the user, few threads, the same examples on every run."""

import os
import tempfile

import pytest
from hypothesis import settings


# Before any import of torch, datasets or transformers: they read these once.
_HOME = tempfile.TemporaryDirectory(prefix="trl_mm-tests-")
os.environ.update(
    HF_HOME=_HOME.name,
    HF_HUB_OFFLINE="1",
    MPLBACKEND="agg",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are so small that a second thread only costs

settings.register_profile("trl_mm", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("trl_mm")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder of a tiny LLaVA-NeXT with its processor, for tests that do not write into it."""
    from support.tiny import save_tiny  # which imports torch

    folder = tmp_path_factory.mktemp("checkpoint")
    save_tiny(folder, scale=4)
    return str(folder)


def pytest_unconfigure():
    _HOME.cleanup()
