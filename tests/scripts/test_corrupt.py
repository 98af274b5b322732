import json

import pytest
from support.files import contents, save_rows
from support.openai_server import running_endpoint
from support.tiny import tiny_row

from trl_mm import load_preferences
from trl_mm.cli.main import main as cli
from trl_mm.data.rows import message_text
from trl_mm.scripts.corrupt import main


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    made = [tiny_row(seed) for seed in range(5)]
    for index, row in enumerate(made):
        row["chosen"] = [{"role": "assistant", "content": f"There are {index} dogs on the red sofa."}]
    return save_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", made)


def rewrite(text, images):
    """The answer that is asked about, with one more word; of one row it says the same."""
    assert not images
    answer = text.split("[Correct answer]\n")[-1].removesuffix("[Answer with mistakes]").strip()
    return answer if "3" in answer else f"{answer} Nothing else."


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with running_endpoint(rewrite) as endpoint:
        yield endpoint


def run(endpoint, rows, output, *flags):
    main(
        ["--model_name_or_path", "text", "--writer", "remote", "--base_url", endpoint.url, "--similarity", "lexical"]
        + ["--dataset_name", str(rows), "--output_dir", str(output), "--cache_dir", str(output.parent / "replies")]
        + ["--least_length", "0.1", "--least_similarity", "0.1", *flags]
    )


def test_pairs_are_loadable_and_their_making_is_on_record(endpoint, rows, tmp_path, capsys):
    run(endpoint, rows, tmp_path / "pairs", "--shard_size", "2")
    pairs = load_preferences(tmp_path / "pairs")
    chosen = {row["row_id"]: message_text(row["chosen"][-1]) for row in load_preferences(rows, needs=("chosen",))}
    for pair in pairs:
        assert message_text(pair["rejected"][-1]) == f"{chosen[pair['row_id']]} Nothing else."
        assert pair["rejected_model"] == "text" and pair["images"][0].size
    left_out = len(chosen) - len(pairs)
    assert left_out == sum("3" in answer for answer in chosen.values())
    manifest = json.loads((tmp_path / "pairs" / "manifest.json").read_text())
    assert manifest["settings"]["corruption"]["max_attempts"] == 3 and len(manifest["settings"]["wording"]) == 64
    shown = capsys.readouterr().out
    assert f"{len(pairs)} pairs from 5 rows" in shown
    assert left_out and f"No rewriting was kept for {left_out} rows" in shown and "equal" in shown
    assert len((tmp_path / "pairs" / "bad_rows.jsonl").read_text().splitlines()) == left_out


def test_a_second_run_asks_nothing_and_other_settings_are_refused(endpoint, rows, tmp_path):
    run(endpoint, rows, tmp_path / "pairs", "--shard_size", "2")
    asked, before = len(endpoint.requests), contents(tmp_path / "pairs")
    run(endpoint, rows, tmp_path / "pairs", "--shard_size", "2")
    (tmp_path / "pairs" / "shard-00001.parquet").unlink()
    run(endpoint, rows, tmp_path / "pairs", "--shard_size", "2")
    assert len(endpoint.requests) == asked
    after = contents(tmp_path / "pairs")
    assert {name for name in before if name.endswith("parquet") and before[name] != after[name]} == set()
    with pytest.raises(ValueError, match="made with other settings: `corruption.temperature`"):
        run(endpoint, rows, tmp_path / "pairs", "--shard_size", "2", "--temperature", "0.1")


def test_settings_that_would_do_nothing_are_refused(rows, tmp_path, capsys):
    flags = ["--model_name_or_path", "org/text", "--dataset_name", str(rows), "--output_dir", str(tmp_path / "pairs")]
    assert cli(["corrupt", *flags, "--base_url", "http://localhost:1/v1"]) == 2
    assert "`base_url` and `request_options` would do nothing. Set `writer` to remote" in capsys.readouterr().err
    assert cli(["corrupt", *flags, "--max_attempts", "0"]) == 2
    assert "`max_attempts` must be at least 1, got 0" in capsys.readouterr().err
