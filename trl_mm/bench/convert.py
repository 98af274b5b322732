"""
A conversion of preference rows: without decoding images, beside `datasets.map` with them, and its memory.

The other side is a function for `Dataset.map` that brings a row into the format and looks whether its image can be
decoded. `LEAN` keeps the bytes of the image; `PLAIN` takes the decoded image from `datasets`, which encodes it again.
Both write one uncompressed Arrow file, neither checks anything else of a row nor can resume.
"""

import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value, load_dataset

from ..data.conversion import ConvertedRows
from ..data.converted_shards import write_converted
from ..data.converter_choice import RenamedColumns
from ..data.reader import RowReader
from ..data.rows import PREFERENCE_COLUMNS
from ..data.source_rows import SourceRows
from .memory import high_water_mark
from .models import WORDS
from .rounds import alternate, speed_ratio
from .rows import picture


OURS, LEAN, PLAIN = "trl-mm convert", "datasets.map, bytes kept", "datasets.map, decoded by datasets"
_ANSWER = 60  # words
_MESSAGES = [{"role": Value("string"), "content": Value("string")}]


def text_rows(file, num_rows):
    """Write rows as RLAIF-V has them to JSON lines, all with one small image beside the file."""
    PIL.Image.effect_noise((64, 64), 50).save(file.parent / "a.jpg")
    with open(file, "w", encoding="utf-8") as lines:
        for number in range(num_rows):
            lines.write(json.dumps({**_texts(number), "image": "a.jpg"}) + "\n")


def image_rows(file, num_rows, size):
    """Write such rows to parquet, each with an image of its own."""
    pixels, rows = np.random.default_rng(0), []
    for number in range(num_rows):
        buffer = io.BytesIO()
        picture(size, pixels).save(buffer, "JPEG", quality=90)
        rows.append({**_texts(number), "image": {"bytes": buffer.getvalue(), "path": f"{number}.jpg"}})
    kinds = dict.fromkeys(("question", "chosen", "rejected", "origin_dataset"), Value("string"))
    schema = Features({**kinds, "idx": Value("int64"), "image": Image()}).arrow_schema
    pq.write_table(pa.Table.from_pylist(rows, schema), file, row_group_size=100)


def convert(file, folder, check_images):
    """Convert them as `trl-mm convert` does."""
    source = SourceRows(file)
    converter = RenamedColumns({"prompt": "question"})
    reader = RowReader(converter, source.folder, PREFERENCE_COLUMNS, "skip", source.locate)
    rows = ConvertedRows(source, reader, Path(folder) / "bad_rows.jsonl", check_images=check_images)
    return write_converted(rows, folder, {})


def map_rows(file, folder, decoded_by_datasets):
    """Bring them into the format by `datasets.map`."""
    rows = load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(folder))
    if not decoded_by_datasets:
        rows = rows.cast_column("image", Image(decode=False))
    features = Features(
        {
            "prompt": _MESSAGES,
            "chosen": _MESSAGES,
            "rejected": _MESSAGES,
            "images": List(Image()),
            "origin_dataset": Value("string"),
            "idx": Value("int64"),
        }
    )
    return rows.map(
        _as_row,
        remove_columns=["question", "image"],
        features=features,
        load_from_cache_file=False,
        cache_file_name=str(Path(folder) / "mapped.arrow"),
    )


def measure(settings):
    """
    Run the benchmark.

    Args:
        settings ([`ConvertBenchmark`]): what to measure.

    Returns:
        `dict[str, Any]`: `cpus`; `rows_per_core_second`, of rows whose images are not decoded; for each side of the
            comparison with images `rows_per_second`, and in `ratios` its time by ours (above 1, ours is faster) with
            the smallest and the largest; `memory`, number of rows to peak memory in bytes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        text_rows(base / "rows.jsonl", settings.rows)
        begin = time.process_time()
        convert(base / "rows.jsonl", base / "texts", check_images=False)
        seconds = time.process_time() - begin
        image_rows(base / "rows.parquet", settings.image_rows, settings.image_size)
        timed = alternate(_contenders(base), settings.rounds)
        memory = {}
        if settings.memory_rows:
            for num_rows in (settings.rows, settings.memory_rows):
                text_rows(base / "many.jsonl", num_rows)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    memory[num_rows] = pool.apply(_peak_memory, (base / "many.jsonl",))
    others = [name for name in timed if name != OURS]
    return {
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "rows_per_core_second": settings.rows / seconds,
        "rows_per_second": {name: settings.image_rows / statistics.median(timed[name].seconds) for name in timed},
        "ratios": {name: speed_ratio(timed[OURS], timed[name]) for name in others},
        "memory": memory,
    }


def summary(result):
    """The figures as text (`str`)."""
    rates = "; ".join(f"{name} {rate:.0f}" for name, rate in result["rows_per_second"].items())
    lines = [
        f"{result['cpus']} CPUs. Images not decoded: {result['rows_per_core_second']:,.0f} rows per second and core",
        f"Images decoded, rows per second: {rates}",
    ]
    for name, (ratio, (low, high)) in result["ratios"].items():
        lines.append(f"trl-mm is {ratio:.2f}x as fast as {name} [{low:.2f}, {high:.2f}]")
    lines += [f"{number:,} rows: peak memory {peak / 1e6:.0f} MB" for number, peak in result["memory"].items()]
    return "\n".join(lines)


def _contenders(base):
    def fresh(run, *arguments):
        with tempfile.TemporaryDirectory(dir=base) as folder:
            run(base / "rows.parquet", folder, *arguments)

    return {
        OURS: lambda: fresh(convert, True),
        LEAN: lambda: fresh(map_rows, False),
        PLAIN: lambda: fresh(map_rows, True),
    }


def _as_row(row):
    image = row["image"]
    if isinstance(image, dict):
        PIL.Image.open(io.BytesIO(image["bytes"])).load()
    answers = {name: [{"role": "assistant", "content": row[name]}] for name in ("chosen", "rejected")}
    return {"prompt": [{"role": "user", "content": row["question"]}], **answers, "images": [image]}


def _texts(number):
    answer = " ".join(WORDS[(number + place) % len(WORDS)] for place in range(_ANSWER))
    texts = {"question": f"What is in picture {number}?", "chosen": answer, "rejected": f"{answer} {number}"}
    return {**texts, "origin_dataset": "coco", "idx": number}


def _peak_memory(file):
    before = high_water_mark()
    with tempfile.TemporaryDirectory() as folder:
        convert(file, folder, check_images=False)
    return high_water_mark() - before
