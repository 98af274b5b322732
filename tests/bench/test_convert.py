import json

import pytest
from datasets import Image

from trl_mm.bench import convert
from trl_mm.cli.main import main
from trl_mm.data.loading import load_preferences


def test_both_sides_make_the_same_rows(tmp_path):
    convert.image_rows(tmp_path / "rows.parquet", 3, "40x30")
    convert.convert(tmp_path / "rows.parquet", tmp_path / "out", check_images=True)
    ours = load_preferences(tmp_path / "out")
    for decoded in (False, True):
        theirs = convert.map_rows(tmp_path / "rows.parquet", tmp_path, decoded)
        for name in ("prompt", "chosen", "rejected", "origin_dataset", "idx"):
            assert ours[name][:] == theirs[name][:]
    kept = convert.map_rows(tmp_path / "rows.parquet", tmp_path, False)
    stored = [rows.cast_column("images", [Image(decode=False)])["images"][:] for rows in (ours, kept)]
    assert [row[0]["bytes"] for row in stored[0]] == [row[0]["bytes"] for row in stored[1]]


def test_the_command_prints_and_writes_the_figures(tmp_path, capsys):
    flags = "--rows 8 --image_rows 4 --image_size 40x30 --memory_rows 12 --rounds 1"
    assert main(["bench", "convert", *flags.split(), "--json", str(tmp_path / "convert.json")]) == 0
    said = capsys.readouterr().out
    assert "rows per second and core" in said and "12 rows: peak memory" in said
    figures = json.loads((tmp_path / "convert.json").read_text())
    assert figures["rows_per_core_second"] > 0 and len(figures["ratios"]) == 2


@pytest.mark.parametrize(
    ("flags", "error"),
    [("--rows 0", "`rows` must be at least 1"), ("--image_size 640", "`image_size` must be like 640x480, got '640'")],
)
def test_wrong_settings_are_one_line(flags, error, capsys):
    assert main(["bench", "convert", *flags.split()]) == 2
    assert error in capsys.readouterr().err
