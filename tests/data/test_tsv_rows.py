import base64
import json

import pytest
from support.published_rows import BASE64

from trl_mm.cli.main import main as cli
from trl_mm.data.json_rows import Damage
from trl_mm.data.loading import load_preferences
from trl_mm.data.tsv_rows import COLUMNS, TSVRows


def encoded(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


def line(number=0, text=("What is it?", "A dog.", "Two dogs."), split=None):
    split = encoded({"model": "muffin", "type": "qa"}) if split is None else split
    return "\t".join(["RLHF-V", BASE64, encoded(text), "coco", split, str(number), f"{number}.jpg"]) + "\n"


def test_rows_have_the_names_of_their_columns(tmp_path):
    (tmp_path / "a.tsv").write_text(line(3) + "\n" + line(4))
    rows = list(TSVRows([tmp_path / "a.tsv"]))
    assert [row["origin_split_inner_idx"] for row in rows] == ["3", "4"] and tuple(rows[0]) == COLUMNS


@pytest.mark.parametrize("more", [(), (-3.5, -0.4)])
def test_pairs_are_those_of_the_list(tmp_path, more):
    (tmp_path / "RLHF-V.tsv").write_text(line(3, ("What is it?", "A dog.", "Two dogs.", *more)))
    for name in (tmp_path, tmp_path / "RLHF-V.tsv"):
        (row,) = load_preferences(name, converter="rlhf_v")
        assert row["prompt"][0]["content"] == "What is it?" and row["images"][0].size == (3, 2)
        assert (row["row_id"], row["source"], row["rejected_model"]) == ("3", "coco", "muffin")


def test_a_broken_line_costs_its_row(tmp_path, capsys):
    file = tmp_path / "a.tsv"
    file.write_bytes(line(0).encode() + b"half\ta line\n" + b"\xff" + line(1).encode() + line(2).encode())
    damaged = [row.reason for row in TSVRows([file], goes_on=True) if isinstance(row, Damage)]
    assert (
        "line 2: no row of RLHF-V's TSV (2 columns in place of 7)" in damaged[0] and "not text in UTF-8" in damaged[1]
    )
    with pytest.raises(ValueError, match="line 2: no row"):
        list(TSVRows([file]))
    assert cli(["convert", str(file), "--output_dir", str(tmp_path / "out")]) == 0
    assert "4 rows read, 2 written" in capsys.readouterr().out
    assert len((tmp_path / "out" / "bad_rows.jsonl").read_text().splitlines()) == 2
    assert cli(["convert", str(file), "--output_dir", str(tmp_path / "strict"), "--strict", "true"]) == 2
