"""`--use_vllm` of the commands that write answers, with an engine in the place of vLLM's."""

import json
import sys
from types import SimpleNamespace

import pytest
from support.eval_world import made_world, run_eval, save_adapter, save_other
from support.tiny import save_tiny, tiny_image, tiny_processor, tiny_row
from support.vllm_engine import install
from transformers import AutoModelForImageTextToText

from trl_mm import BDHSConfig
from trl_mm.data.loading import load_preferences
from trl_mm.data.manifest import read_manifest
from trl_mm.eval.answers import read_answers
from trl_mm.scripts import bdhs
from trl_mm.scripts.vllm_models import VLLMArguments, check_one_process, check_vllm


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = made_world(tmp_path_factory.mktemp("vllm"))
    save_adapter(folder / "adapter", folder / "base", 1)
    save_other(folder / "other")
    for index in range(3):
        tiny_image(index).save(folder / f"{index}.png")
    rows = [{**tiny_row(index), "images": [f"{index}.png"]} for index in range(3)]
    rows = [{name: row[name] for name in ("images", "prompt", "chosen", "row_id")} for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def started(monkeypatch):
    """Engines that are started meanwhile."""
    return install(
        monkeypatch, tiny_processor(), lambda path: AutoModelForImageTextToText.from_pretrained(path).eval()
    )


def make_pairs(world, output, *flags):
    bdhs.main(
        ["--model_name_or_path", str(world / "base"), "--dataset_name", str(world / "rows.jsonl")]
        + ["--output_dir", str(output), "--similarity", "lexical", "--temperature", "0", "--dtype", "float32"]
        + ["--max_sentence_tokens", "20", "--max_answer_tokens", "8", "--mask_threshold", "0.6", *map(str, flags)]
    )
    return [row["rejected"] for row in load_preferences(output)]


@pytest.mark.parametrize("mode", ["attention", "noise"])
def test_pairs_are_those_of_transformers_and_say_who_wrote_them(world, tmp_path, started, mode):
    flags = ["--mode", mode, "--noise_steps", 100]
    expected = make_pairs(world, tmp_path / "here", *flags)
    assert not started
    options = '{"gpu_memory_utilization": 0.5}'
    assert make_pairs(world, tmp_path / "vllm", *flags, "--use_vllm", "--vllm_options", options) == expected
    assert read_manifest(tmp_path / "vllm")["settings"]["engine"] == "vllm"
    assert "engine" not in read_manifest(tmp_path / "here")["settings"]
    kind = {"enable_prompt_embeds": True, "limit_mm_per_prompt": {"image": 0}} if mode == "attention" else {}
    (engine,) = started
    assert engine.options == {
        "model": str(world / "base"),
        "revision": "main",
        "trust_remote_code": False,
        "dtype": "float32",
        "gpu_memory_utilization": 0.5,
        **kind,
    }
    with pytest.raises(ValueError, match='other settings: .*`engine` is "vllm" there and not set here'):
        make_pairs(world, tmp_path / "vllm", *flags)


def test_models_are_asked_one_after_the_other_and_answer_as_with_transformers(world, tmp_path, started):
    models = [f"{name}={world / name}" for name in ("base", "other")]
    for folder, flags in {"here": [], "vllm": ["--use_vllm"]}.items():
        run_eval(world, tmp_path / folder, "--models", *models, "--max_new_tokens", 8, *flags)
    for name in ("base", "other"):
        here, there = (read_answers(tmp_path / folder / name / "pope") for folder in ("here", "vllm"))
        assert here == there
    assert [engine.options["model"] for engine in started] == [str(world / "base"), str(world / "other")]
    prompts = [prompt for engine in started for call in engine.calls for prompt, _ in call]
    assert len(prompts) == 8 and all(len(prompt["multi_modal_data"]["image"]) == 1 for prompt in prompts)


def test_what_cannot_be_is_refused_before_anything_is_loaded(world, tmp_path, started):
    with pytest.raises(
        ValueError, match="`use_vllm` runs whole models, and .*adapter is an adapter for .*trl-mm merge"
    ):
        run_eval(world, tmp_path, "--model_name_or_path", world / "adapter", "--use_vllm")
    with pytest.raises(ValueError, match="`use_vllm` runs a model here, and `endpoint` asks one elsewhere"):
        run_eval(world, tmp_path, "--model_name_or_path", "x", "--use_vllm", "--endpoint", "http://localhost:1/v1")
    with pytest.raises(ValueError, match="`positions='original'` does not work with `use_vllm`"):
        make_pairs(world, tmp_path, "--use_vllm", "--positions", "original")
    with pytest.raises(ValueError, match="`mode='povid'` predicts each token .* Leave `use_vllm` out"):
        make_pairs(world, tmp_path, "--use_vllm", "--mode", "povid")
    with pytest.raises(ValueError, match="`vllm_options` are given and `use_vllm` is not"):
        make_pairs(world, tmp_path, "--vllm_options", "{}")
    with pytest.raises(ValueError, match=r"one process, .* and 2 were started.*tensor_parallel_size: 2"):
        check_one_process(VLLMArguments(use_vllm=True), SimpleNamespace(num_processes=2))
    check_one_process(VLLMArguments(), SimpleNamespace(num_processes=2))
    check_vllm(VLLMArguments(use_vllm=True), [], BDHSConfig(mode="noise", positions="original"))
    assert not started


def test_a_family_whose_tokens_cannot_be_hidden_is_refused(world, tmp_path, started, monkeypatch):
    from trl_mm.tokens import families

    monkeypatch.setattr(families, "family_of", lambda config: families.UNKNOWN)
    with pytest.raises(ValueError, match="`llava_next` model cannot be hidden one by one. Set `mode='noise'`"):
        make_pairs(world, tmp_path, "--use_vllm")
    assert not started


def test_vllm_is_asked_for_where_it_is_missing(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises((ImportError, ValueError), match="`use_vllm` needs vllm, which is not installed|vllm.__spec__"):
        make_pairs(world, tmp_path, "--use_vllm")


def test_what_ends_an_answer_is_read_from_the_model(world, tmp_path, started):
    save_tiny(tmp_path / "model", scale=4)
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [1, 7]}))
    run_eval(world, tmp_path / "out", "--model_name_or_path", tmp_path / "model", "--use_vllm")
    assert {tuple(settings.stop_token_ids) for call in started[0].calls for _, settings in call} == {(1, 7)}
