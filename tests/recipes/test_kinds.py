"""Every kind of recipe runs as its command says, one after another as a user would, with a tiny model and two steps.

What is unusual in it: commands are taken from the recipes, and so are the paths by which one recipe finds what another
has made. Only what the tiny world cannot have is replaced: model, data type, judge and embedding model.
"""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from support.families import family
from support.tiny import tiny_image, tiny_row
from transformers import AutoProcessor

from trl_mm.cli.main import COMMANDS


RECIPES = Path(__file__).parents[2] / "recipes"
KINDS = {
    "bdhs": "pairs/manifest.json",
    "bdhs_noise": "pairs_noise/manifest.json",
    "bdhs_unguided": "pairs_unguided/manifest.json",
    "dpo_lora": "dpo_lora/adapter_model.safetensors",
    "dpo_povid_17k": "dpo_povid_17k/adapter_model.safetensors",
    "dpo_povid_5k": "dpo_povid_5k/adapter_model.safetensors",
    "dpo_ipo": "dpo_ipo/adapter_model.safetensors",
    "dpo_slic": "dpo_slic/adapter_model.safetensors",
    "dpo_full": "dpo_full/model.safetensors",
    "bdhs_online_lora": "bdhs_online_lora/adapter_model.safetensors",
    "bdhs_online_averaged_lora": "bdhs_online_averaged_lora/adapter_model.safetensors",
    "povid_distortion_lora": "povid_distortion_lora/adapter_model.safetensors",
    "online_dpo": "online_dpo/adapter_model.safetensors",
    "online_dpo_weak_annotator": "online_dpo_weak_annotator/adapter_model.safetensors",
    "mixed_dpo": "mixed_dpo/adapter_model.safetensors",
    "dpo_vlfeedback_5k": "dpo_vlfeedback_5k/adapter_model.safetensors",
    "dpo_rlhf_v_5k": "dpo_rlhf_v_5k/adapter_model.safetensors",
    "dpo_llava_rlhf_5k": "dpo_llava_rlhf_5k/adapter_model.safetensors",
    "dpo_nlf_5k": "dpo_nlf_5k/adapter_model.safetensors",
    "dpo_mixture": "dpo_mixture/adapter_model.safetensors",
    "dpo_corrupted": "dpo_corrupted/adapter_model.safetensors",
    "reward": "reward/adapter_model.safetensors",
    "rloo": "rloo/adapter_model.safetensors",
    "ppo": "ppo/value/adapter_model.safetensors",
    "judge": "judge/judge.json",
    "eval": "eval/dpo_lora/scores.json",
}
# A text model that follows instructions writes its pairs; tests/scripts/test_corrupt.py runs it on one of ours
NOT_RUN = {"corrupt"}
OURS = {"image_folder": "coco/train2014"}
TRAINING = {"use_cpu": True, "bf16": False, "max_steps": 2, "dataloader_num_workers": 0}
FAST = {"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 4}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A working directory with the files that the commands name."""
    monkeypatch.chdir(tmp_path)
    rejected = [{"role": "assistant", "content": "There is a dog."}]
    for split in ("train2014", "val2014"):
        Path("coco", split).mkdir(parents=True)
        for index in range(4):
            tiny_image(index, (30 + 10 * index, 40)).save(f"coco/{split}/{index}.png")
    rows = [{**tiny_row(index), "images": [f"{index}.png"]} for index in range(4)]
    Path("sft.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("preferences.jsonl").write_text("\n".join(json.dumps({**row, "rejected": rejected}) for row in rows))
    annotations = {
        "images": [{"id": index, "file_name": f"{index}.png"} for index in range(4)],
        "categories": [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [{"id": index, "image_id": index, "category_id": index % 2} for index in range(4)],
    }
    Path("instances_val2014.json").write_text(json.dumps(annotations))
    for kind in ("random", "popular", "adversarial"):
        question = {"image": "0.png", "text": "Is there a dog in the image?", "label": "yes"}
        Path(f"coco_pope_{kind}.json").write_text(json.dumps(question))
    return tmp_path


def shrunk(recipe, command, model):
    """The recipe for a tiny model."""
    recipe = {**recipe, "dtype": "float32"}
    recipe.pop("accelerate_config", None)  # which is for the launch, and the script is called without one
    if not recipe["model_name_or_path"].startswith("runs/"):
        recipe["model_name_or_path"] = model
    if command in ("dpo", "online-dpo", "reward", "rloo", "ppo"):
        recipe.update(TRAINING)
    if command in ("rloo", "ppo"):
        recipe.update(gradient_accumulation_steps=1, max_completion_length=4)
    if "datasets" in recipe:
        recipe["datasets"] = [{"path": "preferences.jsonl", "source": part["source"]} for part in recipe["datasets"]]
        recipe.update(OURS)
    elif command in ("dpo", "reward", "rloo", "ppo") and (
        recipe.get("converter") or recipe["output_dir"].endswith("corrupted")
    ):
        recipe.update(OURS, dataset_name="preferences.jsonl", converter=None)
    if command == "bdhs":
        recipe.update(FAST)
    if "bdhs" in recipe:
        recipe["bdhs"] = {**recipe["bdhs"], **FAST}
    if "judge" in recipe:
        recipe.update(judge={"kind": "vlm", "model": model, "max_new_tokens": 16}, max_new_tokens=4)
        recipe["max_steps_without_verdict"] = 0  # a random model says nothing that can be read
    if command in ("judge", "eval"):
        recipe["max_new_tokens"] = 16
    return recipe


@pytest.mark.parametrize(("folder", "name"), [("llava_v1.6_vicuna_7b", "llava_next"), ("qwen2.5_vl_7b", "qwen2_5_vl")])
def test_recipes_run_one_after_another(folder, name, world, monkeypatch):
    model, processor = family(name)
    model.save_pretrained("model")
    if name == "llava_next":
        processor.save_pretrained("model")
    else:  # that of Qwen2.5-VL cannot be loaded without torchvision
        monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *args, **kwargs: processor)
        monkeypatch.setattr(type(processor), "save_pretrained", lambda *args, **kwargs: [])
    ran = []
    for kind, made in KINDS.items():
        path = RECIPES / folder / f"{kind}.yaml"
        if not path.exists():
            continue
        _, command, *words = next(map(shlex.split, re.findall(r"^# +(trl-mm .*)", path.read_text(), re.MULTILINE)))
        Path("recipe.yaml").write_text(yaml.safe_dump(shrunk(yaml.safe_load(path.read_text()), command, "model")))
        words[words.index("--config") + 1] = "recipe.yaml"
        words = words[:2] if OURS.items() <= yaml.safe_load(Path("recipe.yaml").read_text()).items() else words
        import_module(COMMANDS[command][0]).main(words)
        assert Path("runs", folder, made).exists(), kind
        ran.append(kind)
    assert {path.stem for path in (RECIPES / folder).glob("*.yaml")} - NOT_RUN == set(ran)


def test_every_kind_is_run():
    kinds = {path.stem for path in RECIPES.rglob("*.yaml") if path.parent.name not in ("accelerate", "shapes")}
    assert kinds == set(KINDS) | NOT_RUN
