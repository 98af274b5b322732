"""All benchmarks, by the names that users give."""

from difflib import get_close_matches

from .amber import AmberBenchmark
from .benchmark import Benchmark
from .chair import ChairBenchmark
from .gqa import GQABenchmark
from .hallusionbench import HallusionBenchmark
from .llava_bench import LlavaBenchBenchmark
from .mme import MMEBenchmark
from .mmhal import MMHalBenchmark, MMHalVBenchmark
from .mmvet import MMVetBenchmark
from .object_halbench import ObjectHalBenchBenchmark
from .pope import PopeBenchmark
from .textvqa import TextVQABenchmark


BENCHMARKS: dict[str, type[Benchmark]] = {
    "amber": AmberBenchmark,
    "chair": ChairBenchmark,
    "object_halbench": ObjectHalBenchBenchmark,
    "pope": PopeBenchmark,
    "textvqa": TextVQABenchmark,
    "gqa": GQABenchmark,
    "hallusionbench": HallusionBenchmark,
    "mme": MMEBenchmark,
    "llava_bench": LlavaBenchBenchmark,
    "mmhal": MMHalBenchmark,
    "mmhal_v": MMHalVBenchmark,
    "mmvet": MMVetBenchmark,
}

# Other spellings, without case, hyphens and underscores
ALIASES: dict[str, str] = {
    "objhal": "object_halbench",
    "objhalbench": "object_halbench",
    "recallcoco": "object_halbench",
    "llavabenchinthewild": "llava_bench",
    "llavabenchwild": "llava_bench",
    "llavainthewild": "llava_bench",
    "llavaw": "llava_bench",
    "mmhalbench": "mmhal",
    "mmhalbenchv": "mmhal_v",
    "gqatestdevbalanced": "gqa",
    "hallusion": "hallusionbench",
    "textvqaval": "textvqa",
}


def find_benchmark(name: str) -> str:
    """
    Key in `BENCHMARKS` of a name in any of its usual spellings ("MM-Vet", "mmvet").

    Raises:
        ValueError: there is no such benchmark.
    """
    spelled = {"".join(filter(str.isalnum, known)): known for known in BENCHMARKS}
    asked = "".join(filter(str.isalnum, name.lower()))
    found = spelled.get(asked) or ALIASES.get(asked)
    if found is None:
        near = get_close_matches(asked, [*spelled, *ALIASES], n=1)
        hint = f", did you mean `{spelled.get(near[0]) or ALIASES[near[0]]}`?" if near else ";"
        raise ValueError(f"unknown benchmark `{name}`{hint} known: {', '.join(BENCHMARKS)}.")
    return found
