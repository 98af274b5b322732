import json
import re
import sys
import types
from dataclasses import fields

import pytest
from support.files import save_rows
from support.tiny import tiny_model, tiny_processor, tiny_row
from transformers import LlamaConfig, LlamaForCausalLM

from trl_mm import BDHSConfig, BDHSSampler, load_preferences
from trl_mm.data.dataset_card import make_card
from trl_mm.data.manifest import read_manifest
from trl_mm.data.subset import subset_positions
from trl_mm.scripts.bdhs import main


FAST = ["--similarity", "lexical", "--max_sentence_tokens", "4", "--max_answer_tokens", "6", "--dtype", "float32"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return save_rows(folder / "rows.jsonl", [tiny_row(seed) for seed in range(4)])


def run(checkpoint, rows, output, *flags):
    main(["--model_name_or_path", checkpoint, "--dataset_name", str(rows), "--output_dir", str(output), *FAST, *flags])


def test_pairs_are_those_of_the_sampler(checkpoint, rows, tmp_path, capsys):
    run(checkpoint, rows, tmp_path / "pairs", "--shard_size", "3", "--mask_threshold", "0.5")
    pairs = load_preferences(tmp_path / "pairs")
    config = BDHSConfig(similarity="lexical", max_sentence_tokens=4, max_answer_tokens=6, mask_threshold=0.5)
    source = load_preferences(rows, needs=("images", "prompt", "chosen"))
    expected = BDHSSampler(config, tiny_processor())(tiny_model(scale=4), list(source))
    assert pairs["rejected"][:] == [pair["rejected"] for pair in expected]
    assert pairs["row_id"][:] == ["0", "1", "2", "3"]
    assert str(tmp_path / "pairs") in capsys.readouterr().out
    manifest = json.loads((tmp_path / "pairs" / "manifest.json").read_text())
    assert manifest["settings"]["model"] == checkpoint and manifest["settings"]["dataset"] == str(rows)
    assert manifest["settings"]["bdhs"]["mask_threshold"] == 0.5 and len(manifest["shards"]) == 2


def test_modes_are_flags_with_help(checkpoint, rows, tmp_path, capsys):
    run(checkpoint, rows, tmp_path, "--mode", "noise", "--noise_steps", "800", "--no_guided")
    bdhs = json.loads((tmp_path / "manifest.json").read_text())["settings"]["bdhs"]
    assert (bdhs["mode"], bdhs["noise_steps"], bdhs["guided"]) == ("noise", 800, False)
    assert set(load_preferences(tmp_path)["bdhs_guided"]) == {False}
    for item in fields(BDHSConfig):
        assert item.metadata["help"] and len(item.metadata["help"]) < 90, item.name
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "Steps of noise on the image" in capsys.readouterr().out


def test_a_recipe_gives_the_settings_and_flags_override_it(checkpoint, rows, tmp_path):
    recipe = tmp_path / "bdhs.yaml"
    recipe.write_text("max_rows: 2\nmask_threshold: 0.5\nseed: 3\n")
    run(checkpoint, rows, tmp_path / "pairs", "--config", str(recipe), "--seed", "4")
    manifest = json.loads((tmp_path / "pairs" / "manifest.json").read_text())
    assert manifest["num_rows"] == 2
    bdhs = manifest["settings"]["bdhs"]
    assert (bdhs["mask_threshold"], bdhs["seed"]) == (0.5, 4)


def test_pairs_of_a_random_subset(checkpoint, rows, tmp_path, capsys):
    pairs, flags = tmp_path / "pairs", ["--max_rows", "2", "--on_bad_image", "skip"]
    wanted = [str(position) for position in subset_positions(4, 2, 5)]
    assert wanted != ["0", "1"]
    lines = rows.read_text().splitlines()
    lines[next(index for index in range(4) if str(index) not in wanted)] = json.dumps(
        {**tiny_row(9), "images": ["gone.png"]}
    )
    broken = rows.with_name("broken_elsewhere.jsonl")
    broken.write_text("\n".join(lines))
    run(checkpoint, broken, pairs, *flags, "--shuffle_seed", "5")
    assert load_preferences(pairs)["row_id"][:] == wanted
    assert "2 pairs from 2 rows" in capsys.readouterr().out and not (pairs / "bad_rows.jsonl").exists()
    card = make_card(load_preferences(pairs), "me/pairs", read_manifest(pairs)).content
    assert re.search(r"\| .*shuffle_seed.* 5 \|", card) and re.search(r"\| .*num_source_rows.* 2 \|", card)
    assert "--max_rows 2 --on_bad_image skip --shuffle_seed 5" in card
    with pytest.raises(
        ValueError, match="made with other settings: .*`rows` is .*`shuffle_seed` is 5 there and 4 here"
    ):
        run(checkpoint, broken, pairs, *flags, "--shuffle_seed", "4")
    with pytest.raises(ValueError, match="other settings: .*`shuffle_seed` is 5 there and not set here"):
        run(checkpoint, broken, pairs, *flags)


def test_a_random_subset_of_a_stream_is_refused(checkpoint, rows, tmp_path):
    with pytest.raises(ValueError, match="`shuffle_seed` .* `streaming` reads them as they come. Leave out"):
        run(checkpoint, rows, tmp_path / "pairs", "--streaming", "--max_rows", "2", "--shuffle_seed", "5")


def test_a_second_run_asks_the_model_nothing(checkpoint, rows, tmp_path, monkeypatch):
    run(checkpoint, rows, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(BDHSSampler, "__call__", lambda *args: pytest.fail("pairs were made again"))
    run(checkpoint, rows, tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="`bdhs.seed` is 0 there and 1 here"):
        run(checkpoint, rows, tmp_path, "--seed", "1")


def test_rows_with_a_bad_image_are_refused_or_skipped(checkpoint, rows, tmp_path):
    lines = rows.read_text().splitlines()
    lines.insert(1, lines[0].replace("0.png", "gone.png"))
    bad = rows.with_name("bad.jsonl")
    bad.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"bad.jsonl.*row 1.*gone.png.*does not exist"):
        run(checkpoint, bad, tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()
    run(checkpoint, bad, tmp_path / "pairs", "--on_bad_image", "skip")
    assert len(load_preferences(tmp_path / "pairs")) == 4
    assert "gone.png" in (tmp_path / "pairs" / "bad_rows.jsonl").read_text()


def test_a_stream_gives_the_same_pairs(checkpoint, rows, tmp_path, capsys):
    flags = ["--shard_size", "2", "--max_rows", "3", "--on_bad_image", "skip"]
    run(checkpoint, rows, tmp_path / "map", *flags)
    printed = capsys.readouterr().out
    run(checkpoint, rows, tmp_path / "stream", "--streaming", *flags)
    assert capsys.readouterr().out == printed.replace(str(tmp_path / "map"), str(tmp_path / "stream"))
    pairs = [load_preferences(tmp_path / name) for name in ("map", "stream")]
    assert pairs[0].remove_columns("images")[:] == pairs[1].remove_columns("images")[:]
    assert [row["images"][0].tobytes() for row in pairs[0]] == [row["images"][0].tobytes() for row in pairs[1]]


def test_a_bad_row_of_a_stream_is_named_when_it_is_reached(checkpoint, rows, tmp_path):
    lines = rows.read_text().splitlines()
    bad = rows.with_name("late.jsonl")
    bad.write_text("\n".join([*lines, lines[0].replace("0.png", "gone.png")]))
    with pytest.raises(ValueError, match=r"late.jsonl, row 4: .*gone.png.*does not exist"):
        run(checkpoint, bad, tmp_path / "pairs", "--streaming", "--shard_size", "2")
    assert len(list((tmp_path / "pairs").glob("*.parquet"))) == 2


def test_the_summary_is_of_all_runs(checkpoint, rows, tmp_path, capsys):
    run(checkpoint, rows, tmp_path / "pairs", "--shard_size", "1")
    printed = capsys.readouterr().out
    assert printed.startswith("4 pairs from 4 rows\n\nattempt") and printed.endswith(
        f"Pairs in {tmp_path / 'pairs'}\n"
    )
    (tmp_path / "pairs" / "shard-00002.parquet").unlink()
    run(checkpoint, rows, tmp_path / "pairs", "--shard_size", "1")
    assert capsys.readouterr().out == printed


def no_model(monkeypatch):
    monkeypatch.setattr("trl_mm.scripts.bdhs.load_model", lambda *args: pytest.fail("the model was loaded"))


@pytest.mark.parametrize("streaming", [[], ["--streaming"]])
def test_images_without_a_file_are_refused_before_the_model_is_loaded(
    checkpoint, rows, tmp_path, monkeypatch, streaming
):
    run(checkpoint, rows, tmp_path / "embedded")
    no_model(monkeypatch)
    with pytest.raises(ValueError, match="`images='path'`, row 0: an image is stored as bytes.*--images embed"):
        run(checkpoint, tmp_path / "embedded", tmp_path / "pairs", "--images", "path", *streaming)
    monkeypatch.setattr("trl_mm.scripts.bdhs.load_rows", lambda args: load_preferences(rows, needs=("images",)))
    with pytest.raises(ValueError, match="`images='path'` needs `image_folder`, the local folder"):
        run(checkpoint, "owner/name", tmp_path / "pairs", "--images", "path", *streaming)


def test_an_embedding_model_that_cannot_be_had_is_said_before_the_model_is_loaded(
    checkpoint, rows, tmp_path, monkeypatch
):
    no_model(monkeypatch)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sentence_transformers", None)
        with pytest.raises(ImportError, match=r"pip install trl-mm\[bdhs\].*--similarity lexical"):
            run(checkpoint, rows, tmp_path / "pairs", "--similarity", "some/embeddings")

    def fail(name, device):
        raise RuntimeError("half a file")

    monkeypatch.setitem(sys.modules, "sentence_transformers", types.SimpleNamespace(SentenceTransformer=fail))
    with pytest.raises(
        ValueError, match="`similarity='some/embeddings'` cannot be loaded: half a file.*--similarity lex"
    ):
        run(checkpoint, rows, tmp_path / "pairs", "--similarity", "some/embeddings")


@pytest.mark.parametrize("streaming", [[], ["--streaming"]])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [{"role": "user", "content": "And?"}]}, "row 1: `chosen` ends with a message of the role user"),
        ({"chosen": []}, r"row 1: `chosen` must be a string or a list of messages, but it is \[\]"),
        ({"chosen": " "}, "row 1: `chosen` is empty"),
        ({"chosen": "A <image> dog."}, "row 1: `chosen` holds an image or <image>. Images belong in the prompt"),
    ],
)
def test_rows_no_pair_can_be_made_from_are_named(checkpoint, rows, tmp_path, change, message, streaming):
    lines = rows.read_text().splitlines()
    bad = rows.with_name("bad_answer.jsonl")
    bad.write_text("\n".join([lines[0], json.dumps({**json.loads(lines[1]), **change})]))
    with pytest.raises(ValueError, match=f"bad_answer.jsonl, {message}"):
        run(checkpoint, bad, tmp_path / "pairs", *streaming)


def test_pairs_do_not_go_where_a_model_is(checkpoint, rows, tmp_path):
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match="`output_dir` .* holds a trained model. Name another folder"):
        run(checkpoint, rows, tmp_path)


def test_rows_without_any_image_are_refused(checkpoint, rows, tmp_path):
    content = [{**json.loads(line), "images": []} for line in rows.read_text().splitlines()]
    text_only = rows.with_name("text_only.jsonl")
    text_only.write_text("\n".join(map(json.dumps, content)))
    with pytest.raises(ValueError, match=rf"None of the {len(content)} rows of .*text_only.jsonl has an image"):
        run(checkpoint, text_only, tmp_path / "pairs")


def test_a_row_without_a_chosen_answer_is_named(checkpoint, rows, tmp_path):
    bad = rows.with_name("no_answer.jsonl")
    row = {name: value for name, value in json.loads(rows.read_text().splitlines()[0]).items() if name != "chosen"}
    bad.write_text(json.dumps(row))
    with pytest.raises(ValueError, match="no_answer.jsonl, row 0: column `chosen` is missing"):
        run(checkpoint, bad, tmp_path / "pairs")
    bad.write_text(
        json.dumps({"image": "0.png", "conversations": [{"from": "human", "value": "<image>\nWhat is this?"}]})
    )
    with pytest.raises(ValueError, match="no_answer.jsonl, row 0: .*(gpt|answer|assistant)"):
        run(checkpoint, bad, tmp_path / "pairs", "--converter", "llava_instruct")


def test_a_processor_without_image_token_is_refused_before_the_model_is_loaded(
    checkpoint, rows, tmp_path, monkeypatch
):
    no_model(monkeypatch)
    processor = tiny_processor.__wrapped__()
    processor.image_token, processor.image_token_id = "<picture>", None
    monkeypatch.setattr("trl_mm.scripts.bdhs.load_processor", lambda args: processor)
    with pytest.raises(ValueError, match="has no image token that its tokenizer knows.*Pass the processor"):
        run(checkpoint, rows, tmp_path / "pairs")


def test_a_folder_of_other_settings_is_refused_with_what_differs(checkpoint, rows, tmp_path):
    run(checkpoint, rows, tmp_path / "pairs", "--max_rows", "2")
    with pytest.raises(ValueError) as error:
        run(checkpoint, rows, tmp_path / "pairs", "--max_rows", "2", "--images", "path", "--temperature", "0.5")
    assert str(error.value) == (
        f"{tmp_path / 'pairs'} was made with other settings: `bdhs.temperature` is 1.0 there and 0.5 here; `images` "
        'is "embed" there and "path" here. Use another folder, or delete this one.'
    )


def test_a_missing_dataset_is_named(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.jsonl"):
        run(checkpoint, tmp_path / "gone.jsonl", tmp_path / "pairs")


def test_a_text_only_model_is_refused_and_another_named(rows, tmp_path):
    config = LlamaConfig(
        vocab_size=360, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "text")
    tiny_processor.__wrapped__().tokenizer.save_pretrained(tmp_path / "text")  # a new one, of no processor
    with pytest.raises(ValueError, match="`model_name_or_path`.*no vision-language model. Pass one such as llava-hf/"):
        run(str(tmp_path / "text"), rows, tmp_path / "pairs")


@pytest.mark.parametrize("flags", [["--mask_treshold", "0.5"], ["--max_attempts", "many"]])
def test_a_flag_that_is_not_known_or_no_number_is_refused(checkpoint, rows, tmp_path, flags, capsys):
    with pytest.raises((ValueError, SystemExit)) as error:
        run(checkpoint, rows, tmp_path / "pairs", *flags)
    assert flags[0].strip("-") in f"{error.value} {capsys.readouterr().err}"


def test_a_setting_out_of_range_is_refused(checkpoint, rows, tmp_path):
    with pytest.raises(ValueError, match=r"`mask_threshold` must be in \[0, 1\], got 2.0"):
        run(checkpoint, rows, tmp_path / "pairs", "--mask_threshold", "2")


def test_pairs_are_pushed_with_the_command_that_made_them(checkpoint, rows, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("trl_mm.data.hub.check_repo", lambda **options: calls.append(options))
    monkeypatch.setattr("trl_mm.data.hub.push_preferences", lambda *args, **options: calls.append((args, options)))
    flags = ["--push_to_hub", "--repo_id", "me/two words", "--private", "--license", "mit"]
    run(checkpoint, rows, tmp_path / "pairs", *flags)
    push = {"repo_id": "me/two words", "private": True, "overwrite": False}
    assert calls == [push, ((str(tmp_path / "pairs"),), {**push, "license": "mit"})]
    command = json.loads((tmp_path / "pairs" / "manifest.json").read_text())["command"]
    assert command.startswith(f"trl-mm bdhs --model_name_or_path {checkpoint} --dataset_name {rows} ")
    assert command.endswith("--push_to_hub --repo_id 'me/two words' --private --license mit")

    run(checkpoint, rows, tmp_path / "pairs", "--push_to_hub", "--repo_id", "me/pairs", "--overwrite")
    assert calls[-1][1] == {"repo_id": "me/pairs", "private": None, "overwrite": True, "license": "unknown"}
    assert json.loads((tmp_path / "pairs" / "manifest.json").read_text())["command"] == command


def test_a_push_that_will_be_refused_is_refused_before_the_model_runs(checkpoint, rows, tmp_path, monkeypatch):
    def refuse(**options):
        raise PermissionError("no")

    monkeypatch.setattr("trl_mm.data.hub.check_repo", refuse)
    with pytest.raises(PermissionError):
        run(checkpoint, rows, tmp_path / "pairs", "--push_to_hub", "--repo_id", "me/pairs")
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--push_to_hub"], "`push_to_hub` needs `repo_id`"),
        (["--repo_id", "me/pairs"], "would do nothing. Pass `push_to_hub`"),
        (["--overwrite"], "would do nothing. Pass `push_to_hub`"),
    ],
)
def test_half_a_push_is_refused(checkpoint, rows, tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        run(checkpoint, rows, tmp_path / "pairs", *flags)
