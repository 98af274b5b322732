"""Each kind of LLaVA-1.6 recipe runs as written, but for the model, the data, the device and the number of steps."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from tiny import tiny_image, tiny_model, tiny_processor, tiny_row

from trl_mm.cli.main import COMMANDS


RECIPES = Path(__file__).parents[2] / "recipes"
ON_CPU = "--max_steps 2 --use_cpu true --bf16 false --report_to none --dataloader_num_workers 0".split()
FEW_TOKENS = {"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model, images, SFT rows, pairs and annotations."""
    folder = tmp_path_factory.mktemp("data")
    tiny_model(scale=4).save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    rows = []
    for index in range(4):
        tiny_image(index).save(folder / f"{index}.png")
        rejected = [{"role": "assistant", "content": "There is a dog."}]
        rows.append({**tiny_row(index), "images": [f"{index}.png"], "rejected": rejected})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    content = {
        "images": [{"id": index, "file_name": f"{index}.png"} for index in range(4)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(("dog", "cat"))],
        "annotations": [{"id": i, "image_id": i, "category_id": i % 2} for i in range(4)],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def run(recipe, command, output, *flags):
    main = import_module(COMMANDS[command][0]).main
    main(["--config", str(RECIPES / recipe), "--dtype", "float32", "--output_dir", str(output), *flags])


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("dpo_lora", "dpo"),
        ("dpo_full", "dpo"),
        ("bdhs_online_lora", "dpo"),
        ("online_dpo", "online-dpo"),
        ("mixed_dpo", "online-dpo"),
    ],
)
def test_training(folder, tmp_path, monkeypatch, name, command):
    flags = ["--model_name_or_path", str(folder / "model"), "--dataset_name", str(folder / "pairs.jsonl"), *ON_CPU]
    if name == "bdhs_online_lora":
        flags += ["--bdhs", json.dumps(FEW_TOKENS)]
    elif command == "dpo":
        flags += ["--ref_log_probs_dir", str(tmp_path / "reference")]
    else:
        judge = {"kind": "vlm", "model": str(folder / "model"), "max_new_tokens": 16}
        flags += ["--judge", json.dumps(judge), "--max_new_tokens", "4"]
    run(f"llava_v1.6_vicuna_7b/{name}.yaml", command, tmp_path / "out", *flags)
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    assert history[-1]["step"] == 2
    saved = "model.safetensors" if name == "dpo_full" else "adapter_model.safetensors"
    assert (tmp_path / "out" / saved).exists()


def test_pairs_and_evaluation(folder, tmp_path):
    common = ["--model_name_or_path", str(folder / "model")]
    flags = [f"--{name}={value}" for name, value in FEW_TOKENS.items()]
    rows = ["--dataset_name", str(folder / "pairs.jsonl")]
    run("llava_v1.6_vicuna_7b/bdhs.yaml", "bdhs", tmp_path / "pairs", *common, *rows, *flags)
    assert json.loads((tmp_path / "pairs" / "manifest.json").read_text())["num_rows"] == 4
    world = ["--annotations", str(folder / "annotations.json"), "--image_folder", str(folder)]
    run("llava_v1.6_vicuna_7b/eval.yaml", "eval", tmp_path / "eval", *common, *world, "--max_new_tokens", "4")
    assert {"chair", "pope"} <= json.loads((tmp_path / "eval" / "scores.json").read_text()).keys()
    run("llava_v1.6_vicuna_7b/judge.yaml", "judge", tmp_path / "judge", *common, *rows, "--max_new_tokens", "16")
    assert (tmp_path / "judge" / "judge.json").exists()
