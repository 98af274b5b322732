"""
What the paper (arXiv 2407.02477, "Understanding Alignment in Multimodal LLMs: A Comprehensive Study") reports for
LLaVA-1.6-7B, to stand beside one's own figures of the same training. Each row is a single run, without error bars; the
standard errors here are what the size of a benchmark alone allows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt


SOURCE = "arXiv 2407.02477, LLaVA-1.6-7B"


@dataclass(frozen=True)
class PaperColumn:
    """
    A column of the paper's tables, and our metric that is the same.

    Args:
        benchmark (`str`): our benchmark.
        metric (`str`, *optional*): our metric; `None` for the first one of the benchmark.
        items (`int`, *optional*): yes/no outcomes that a percentage is a share of, for the binomial standard error.
        error (`float`, *optional*): standard error where it is not the binomial one.
        needs (`str`, *optional*): setting of our benchmark without which other questions are asked.
    """

    benchmark: str
    metric: str | None = None
    items: int | None = None
    error: float | None = None
    needs: str | None = None

    def standard_error(self, value: float) -> float | None:
        """
        Standard error (`float`) of a value on the paper's scale, or `None` where nothing is known: that of a share p
        of n items, sqrt(p (1 - p) / n). Where items have scores between 0 and 1 it is the most that there can be.
        """
        share = value / 100
        return self.error if self.items is None else 100 * sqrt(share * (1 - share) / self.items)


def find_paper_row(name: str) -> tuple[str, dict[str, float]]:
    """
    Finds a row.

    Args:
        name (`str`): its name, such as `"BDHS attention, 5k"`, in any case and punctuation; a part that only one row
            has is enough.

    Returns:
        `tuple[str, dict[str, float]]`: the whole name, and the value of each column of [`PAPER_COLUMNS`].

    Raises:
        ValueError: there is no such row, or more than one.
    """
    letters = {known: _letters(known) for known in PAPER_ROWS}
    asked = _letters(name)
    found = [known for known, spelled in letters.items() if spelled == asked]
    found = found or [known for known, spelled in letters.items() if asked and asked in spelled]
    if len(found) != 1:
        problem = f"is a part of {len(found)} rows" if found else "is none"
        known = ", ".join(f'"{row}"' for row in found or PAPER_ROWS)
        raise ValueError(f"`paper_row` {name!r} {problem} of the paper's ({SOURCE}): give one of {known}.")
    return found[0], dict(zip(PAPER_COLUMNS, PAPER_ROWS[found[0]], strict=True))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


# POPE asks 500 images six questions in each of three files: 0.34 if they were independent, about 0.4 as they are not.
# Recall_coco is a share of 954 annotated objects. MMHal-Bench (96 answers graded 0 to 6) and LLaVA-Bench (a ratio of
# the grades of 60 answers) have no error that follows from their size.
PAPER_COLUMNS: Mapping[str, PaperColumn] = {
    "POPE": PaperColumn("pope", "pope_f1", error=0.4, needs="pope_files"),
    "MMHal": PaperColumn("mmhal"),
    "MMHal-V": PaperColumn("mmhal_v"),
    "LLaVA-W": PaperColumn("llava_bench"),
    "TextVQA": PaperColumn("textvqa", items=5000),
    "GQA": PaperColumn("gqa", items=12578),
    "MM-Vet": PaperColumn("mmvet", items=218),
    "Recall_coco": PaperColumn("object_halbench", "object_halbench_recall", items=954),
}

# In the order of PAPER_COLUMNS. Trained by DPO on rows of POVID where a name says nothing else.
PAPER_ROWS: Mapping[str, tuple[float, ...]] = {
    "base 7B": (86.40, 2.95, 2.75, 80.85, 64.85, 64.23, 43.94, 68.13),
    "DPO, POVID 17k": (88.09, 3.16, 3.07, 78.63, 64.56, 64.12, 40.60, 73.48),
    "Online-DPO, POVID": (86.49, 2.88, 2.94, 82.61, 64.88, 64.31, 43.26, 68.45),
    "Mixed-DPO, POVID": (88.03, 2.83, 3.10, 82.75, 64.93, 64.47, 42.80, 74.53),
    "DPO, POVID 5k": (88.18, 2.93, 2.93, 81.89, 64.90, 64.34, 43.39, 71.80),
    "DPO, POVID 5k + POVID's distortion": (88.33, 2.84, 2.64, 80.15, 64.21, 63.79, 41.28, 69.39),
    "BDHS noise, 5k": (88.60, 2.37, 2.48, 84.53, 65.05, 64.14, 41.38, 75.16),
    "BDHS attention, 5k": (88.75, 2.61, 2.71, 86.33, 65.07, 63.97, 43.40, 75.58),
    "BDHS attention, online, 5k": (88.83, 2.80, 2.99, 85.03, 65.09, 63.65, 43.12, 74.09),
    "online BDHS and POVID 5k (eq. 5)": (88.38, 2.82, 2.81, 84.01, 65.42, 64.30, 45.46, 74.00),
    "mask only, no guidance": (88.70, 2.52, 2.51, 86.08, 65.07, 64.06, 42.02, 77.04),
    "IPO, POVID": (87.62, 3.11, 3.11, 82.34, 65.09, 64.47, 43.99, 69.81),
    "SLiC, POVID": (88.28, 3.17, 3.15, 81.99, 64.59, 64.11, 41.51, 74.32),
    "PPO, VLFeedback reward": (87.54, 3.02, 3.09, 80.17, 63.90, 64.04, 40.51, 67.19),
    "RLOO, VLFeedback reward": (87.17, 2.94, 2.72, 78.72, 63.59, 63.72, 42.25, 64.57),
}
