"""What is read value by value is what is read as a whole, and an error names its line."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trl_mm.data import json_rows
from trl_mm.data.json_rows import JSONRows


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def read(path, text):
    path.write_text(text, encoding="utf-8", newline="")
    return list(JSONRows([path]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(VALUES, max_size=6), indent=st.none() | st.just(2), chunk=st.integers(1, 30))
def test_a_list_is_read_in_pieces_of_any_size(tmp_path, monkeypatch, rows, indent, chunk):
    monkeypatch.setattr(json_rows, "_CHUNK", chunk)
    assert read(tmp_path / "a.json", " \n" + json.dumps(rows, indent=indent) + "\n") == rows
    lines = [row if isinstance(row, dict) else {"row": row} for row in rows]
    assert read(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, lines))) == lines


def test_files_follow_one_another_and_can_be_read_again(tmp_path):
    for name, text in (
        ("a", '\ufeff{"x": 1}\r\n\r\n{"x": 2}'),
        ("b", "[]"),
        ("c", ""),
        ("d", '\ufeff[{"x": "\u2028"}]'),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    rows = JSONRows([tmp_path / name for name in "abcd"])
    assert list(rows) == list(rows) == [{"x": 1}, {"x": 2}, {"x": "\u2028"}]


@pytest.mark.parametrize("separator", ["\n", ","])
def test_values_are_those_of_pythons_json(tmp_path, separator):
    """Larger than 64 bits, not in the standard but written by Python, half an emoji, the last of equal keys."""
    values = [
        "123456789012345678901234567890",
        "-0.0",
        "1e400",
        "[NaN]",
        '"\\ud83d"',
        '"\\udc00b"',
        '{"a": 1, "a": 2}',
    ]
    text = separator.join(values)
    found = read(tmp_path / "a.json", f"[{text}]" if separator == "," else text)
    assert repr(found) == repr([json.loads(value) for value in values])


def test_rows_before_an_error_are_there(tmp_path):
    (tmp_path / "a").write_text('{"x": 1}\n{"x": 2}\n{"x"')
    rows = iter(JSONRows([tmp_path / "a"]))
    assert [next(rows), next(rows)] == [{"x": 1}, {"x": 2}]
    with pytest.raises(ValueError, match="a, line 3: no JSON"):
        next(rows)


@pytest.mark.parametrize("chunk", [3, 1 << 20])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[\n{"x": 1},\n{"x": 2}\n', 4),
        ('[\n{"x": 1},\n{"x" 2}]', 3),
        ('[\n{"x": 1}\n{"x": 2}]', 3),
        ('[{"x": 1},\n]', 2),
        ("[{}]\n\n[", 3),
        ("[" * 100_000, 1),
    ],
)
def test_the_line_of_an_error_is_named(tmp_path, monkeypatch, chunk, text, line):
    monkeypatch.setattr(json_rows, "_CHUNK", chunk)
    with pytest.raises(ValueError, match=f"a.json, line {line}: no JSON .*Write one object per line, or one list"):
        read(tmp_path / "a.json", text)


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"x": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="a.jsonl is not text in UTF-8.*Convert it"):
        list(JSONRows([tmp_path / "a.jsonl"]))


KEYED = {"7": {"chosen": ["A.", "é"], "rejected": ["B."]}, "8": {"rejected": ["D."], "chosen": ["C."]}}
ROWS = [{"image_id": name, **entry} for name, entry in KEYED.items()]


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("goes_on", [False, True])
def test_one_object_of_pairs_by_image_has_their_rows(tmp_path, indent, goes_on):
    file = tmp_path / "desc_data.json"
    file.write_text(json.dumps(KEYED, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(JSONRows([file], goes_on)) == ROWS


def test_what_is_broken_in_such_an_object_is_named(tmp_path):
    file = tmp_path / "desc_data.json"
    text = json.dumps({**KEYED, "9": 3}, indent=1, ensure_ascii=False)
    file.write_bytes(text.encode().replace("é".encode(), b"\xff"))
    damaged, row, other = JSONRows([file], goes_on=True)
    assert "not text in UTF-8" in damaged.reason and row == ROWS[1] and "`9` is no pair" in other.reason
    file.write_text(text)
    with pytest.raises(ValueError, match="`9` is no pair"):
        list(JSONRows([file]))
    file.write_text(text[:-10])
    with pytest.raises(ValueError, match=r"desc_data.json, line \d+: no JSON"):
        list(JSONRows([file]))
    (damage,) = JSONRows([file], goes_on=True)
    assert "The rest of the file is not read" in damage.reason


def test_other_objects_are_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"chosen": {"rejected": ["A."]}}\n{"b": 1}\n')
    assert list(JSONRows([tmp_path / "a.jsonl"])) == [{"chosen": {"rejected": ["A."]}}, {"b": 1}]
