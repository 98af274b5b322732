"""The card says what the rows and the manifest say, and nothing in them gets out of its cell."""

import re

import pytest
import yaml
from datasets import Dataset
from support.rows import image_dataset

from trl_mm.data.dataset_card import escape_markdown, make_card


HOSTILE = [
    "<script>alert(1)</script>",
    "a | b || c",
    "line\n\n# heading\n---\nlicense: mit\n---\n",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png)",
    "`code` ``` {{ 7 * 7 }} {% raw %} *bold* __all__ ~~gone~~ $x$ &lt;b&gt; \\| <!--",
    "a\n```\n<script>alert(1)</script>",
    "half a pair \ud83d, bell \a",
]


def rows(attempts):
    message = [{"role": "assistant", "content": "There is a dog."}]
    pairs = [
        {"images": [], "prompt": message, "chosen": message, "rejected": message, "row_id": str(index)}
        | {"bdhs_attempts": attempt, "bdhs_guided": attempt < 3, "bdhs_similarity": attempt / 4}
        for index, attempt in enumerate(attempts)
    ]
    return image_dataset(pairs)


def manifest(**settings):
    known = {"model": "llava-hf/llava-v1.6-vicuna-7b-hf", "bdhs": {"mask_threshold": 0.99, "seed": 0}, **settings}
    versions = {"trl-mm": "0.1.0", "torch": None}
    return {"settings": known, "num_source_rows": 5, "shard_size": 2, "versions": versions, "command": "trl-mm bdhs"}


def cells(card, first):
    """Rows of the table whose first column has this head, as a reader of Markdown splits them."""
    lines = str(card).split(f"\n| {first} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_values_are_those_of_rows_and_manifest():
    card = make_card(rows([1, 1, 2, 3, 3]), "me/pairs", manifest(), license="cc-by-4.0")
    data = card.data.to_dict()
    assert data["license"] == "cc-by-4.0" and data["base_model"] == "llava-hf/llava-v1.6-vicuna-7b-hf"
    assert {"preference", "dpo", "vision", "trl-mm", "bdhs"} <= set(data["tags"])
    assert data["size_categories"] == "n<1K" and data["task_categories"] == ["image-text-to-text"]
    assert "# pairs\n\n5 preference pairs" in card.text and 'load_dataset("me/pairs", split="train")' in card.text
    assert [row[:2] for row in cells(card, "column")][:2] == [
        ["images", "list of image"],
        ["prompt", "list of (role&#58; string, content&#58; string)"],
    ]
    assert [row[0] for row in cells(card, "column")][-1] == "bdhs_similarity"
    assert cells(card, "attempt") == [
        ["1", "5", "2", "40.0%", "2", "0.250"],
        ["2", "3", "1", "33.3%", "1", "0.500"],
        ["3", "2", "2", "100.0%", "0", "0.750"],
    ]
    settings = dict(cells(card, "setting"))
    assert settings["bdhs.mask_threshold"] == "0.99" and settings["num_source_rows"] == "5"
    assert settings["trl-mm"] == "0.1.0"
    assert "```bash\ntrl-mm bdhs\n```" in card.text


def test_an_attempt_that_settled_nothing_has_no_line():
    assert [row[:3] for row in cells(make_card(rows([1, 3]), "me/pairs"), "attempt")] == [
        ["1", "2", "1"],
        ["3", "1", "1"],
    ]


def test_rows_of_another_origin_get_a_card_without_bdhs():
    others = rows([1, 2]).remove_columns(["bdhs_attempts", "bdhs_guided", "bdhs_similarity"])
    card = make_card(others, "me/pairs")
    assert "bdhs" not in str(card) and "Hallucination" not in str(card) and "## Settings" not in str(card)
    assert "base_model" not in card.data.to_dict() and card.data.license == "unknown"


@pytest.mark.parametrize("model", ["runs/model", "/models/llava", "a\nb/c", 7])
def test_a_model_that_is_not_on_the_hub_is_no_base_model(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "model").mkdir(parents=True)
    assert "base_model" not in make_card(rows([1]), "me/pairs", manifest(model=model)).data.to_dict()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_stay_in_their_cells(text):
    plain = make_card(rows([1]), "me/pairs", manifest(dataset="rows.jsonl"))
    hostile = make_card(
        rows([1]).add_column(text.encode(errors="replace").decode(), ["x"]),  # Arrow has no halves of pairs
        "me/pairs",
        {**manifest(dataset=text, model=text, **{text: text}), "versions": {text: text}},
        license=text,
        command=text,
    )
    content = str(hostile)
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", content, flags=re.DOTALL).groups()
    data = yaml.safe_load(front)
    assert set(data) == set(plain.data.to_dict()) - {"base_model"}
    assert len(cells(hostile, "setting")) == len(cells(plain, "setting"))
    for head, columns in (("column", 3), ("setting", 2)):
        assert {len(row) for row in cells(hostile, head)} == {columns}
    fence = re.search(r"^(`{3,})bash\n(.*?)\n\1$", body, flags=re.DOTALL | re.MULTILINE)
    prose = body.replace(fence[0], "")
    headings = ["# pairs", "## Columns", "## Acceptance", "## Command", "## Settings", "## Licence"]
    assert re.findall(r"^#+ .*$", prose, flags=re.MULTILINE) == headings
    assert not re.search(r"[<>\\]|!\[|\]\(javascript|\{\{|\{%", prose)
    assert fence[2] == text.encode(errors="replace").decode()


def test_inert_text_is_readable():
    assert (
        escape_markdown("sentence-transformers/all-mpnet-base-v2, 99 %")
        == "sentence-transformers/all-mpnet-base-v2, 99 %"
    )
    assert (
        escape_markdown("max_attempts") == "max_attempts" and escape_markdown("__all__") == "&#95;&#95;all&#95;&#95;"
    )
    assert escape_markdown("<b>") == "&#60;b&#62;"


@pytest.mark.parametrize(
    ("num_rows", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (250_000, "100K<n<1M"), (2_000_000, "1M<n<10M")]
)
def test_size_category(num_rows, category):
    many = Dataset.from_dict({"row_id": range(num_rows)})
    assert make_card(many, "me/pairs").data.size_categories == category
