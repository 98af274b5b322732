"""A small world for `trl-mm eval`: three images, published questions about them, and models to ask."""

import json

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from support.tiny import save_tiny, tiny_image
from trl_mm.scripts.eval import main


ASKED = [("a.png", "dog", "yes"), ("a.png", "cat", "no"), ("b.png", "dog", "no"), ("c.png", "red circle", "yes")]


def made_world(folder):
    """Folder with `images`, `pope.jsonl`, and the model `base`."""
    (folder / "images").mkdir()
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        tiny_image(index, (30 + 10 * index, 40)).save(folder / "images" / name)
    rows = [{"image": image, "text": f"Is there a {name}?", "label": label} for image, name, label in ASKED]
    (folder / "pope.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_tiny(folder / "base", scale=6)
    return folder


def save_adapter(folder, base, seed, **settings):
    """A LoRA adapter that changes the answers of its base (a folder)."""
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(**{"r": 2, "target_modules": ["q_proj", "v_proj"], **settings}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.normal_(std=0.5)
    model.save_pretrained(folder)


def save_other(folder):
    """Another whole model."""
    save_tiny(folder, scale=6, seed=5)


def run_eval(world, output, *flags, benchmarks=("pope",)):
    """`trl-mm eval` on the questions of a world."""
    main(
        ["--image_folder", str(world / "images"), "--output_dir", str(output), "--benchmarks", *benchmarks]
        + ["--pope_files", str(world / "pope.jsonl"), "--dtype", "float32", *map(str, flags)]
    )
