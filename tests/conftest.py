"""What holds for the whole session: no network, no cache of the user, few threads, the same examples on every run."""

import os
import tempfile

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


def pytest_unconfigure():
    _HOME.cleanup()
