"""All benchmarks, by the names that users give."""

from .benchmark import Benchmark
from .chair import ChairBenchmark
from .pope import PopeBenchmark


BENCHMARKS: dict[str, type[Benchmark]] = {
    "chair": ChairBenchmark,
    "pope": PopeBenchmark,
}
