import json

import pytest
from support.tiny import tiny_image

from trl_mm.data.json_rows import Damage
from trl_mm.data.meta_rows import read_meta
from trl_mm.data.source_rows import SourceRows
from trl_mm.scripts.convert import main


def row(name, **columns):
    texts = {"question": f"What is {name}?", "chosen": "A.", "rejected": "B.", "answer_gt": "A"}
    return {"image": f"{name}.png", **texts, **columns}


@pytest.fixture
def mmpr(tmp_path):
    """As it is published, paths from above its folder."""
    folder = tmp_path / "MMPR"
    (folder / "images" / "M3CoT").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for name in ("a", "b"):
        tiny_image(3).save(folder / "images" / "M3CoT" / f"{name}.png")
    rows = [row("a"), row("b", image=["a.png", "b.png"]), row("c", image=None)]
    (folder / "annotations" / "m3cot.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write(folder, comma="", **files):
    entries = [
        f'"{name}": {{"root": "MMPR/images/M3CoT", "annotation": {json.dumps(file)}, "repeat_time": 1{comma}}}'
        for name, file in files.items()
    ]
    (folder / "meta.json").write_text("{" + ",\n".join(entries) + comma + "\n}")
    return folder / "meta.json"


def test_annotations_are_read_with_the_root_of_their_images(mmpr):
    file = write(mmpr, m3cot="MMPR/annotations/m3cot.jsonl")
    found = [value for _, value in SourceRows(file)]
    assert [value["image"] for value in found] == [
        "MMPR/images/M3CoT/a.png",
        ["MMPR/images/M3CoT/a.png", "MMPR/images/M3CoT/b.png"],
        None,
    ]
    assert SourceRows(file).folder == mmpr


def test_it_is_converted_with_its_comma(mmpr, tmp_path, capsys):
    file = write(mmpr, ",", m3cot="MMPR/annotations/m3cot.jsonl")
    main([str(file), "--output_dir", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "Converter: mmpr." in said and "3 rows read, 3 written\n1 bad: 1 no JSON" in said
    assert "a comma before the end" in (tmp_path / "out" / "bad_rows.jsonl").read_text()
    with pytest.raises(ValueError, match="meta.json: no JSON .a comma before the end"):
        main([str(file), "--output_dir", str(tmp_path / "strict"), "--strict"])


@pytest.mark.parametrize(
    "path", ["gone.jsonl", "../secret.jsonl", "MMPR/../../secret.jsonl", "/etc/passwd", "link.jsonl"]
)
def test_files_elsewhere_are_not_opened(mmpr, tmp_path, path):
    (tmp_path / "secret.jsonl").write_text(json.dumps(row("a")))
    (mmpr / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    found = [value for _, value in SourceRows(write(mmpr, bad=path, m3cot="annotations/m3cot.jsonl"))]
    assert isinstance(found[0], Damage) and "in the folder of the meta file" in found[0].reason
    assert len(found) == 4


def test_other_files_are_no_meta_files(tmp_path):
    for text in ("[1]", '{"a": 1}', '{"annotation": 3}', "{", "", '{"a": "x,}"}'):
        (tmp_path / "rows.json").write_text(text)
        assert read_meta(tmp_path / "rows.json") is None
    assert read_meta(tmp_path) is None and read_meta(tmp_path / "gone.json") is None
