"""`generate` of transformers as a reference: one row at a time, with the processor's own inputs."""

import torch
from transformers import GenerationConfig

from trl_mm.generation.completer import image_token_ids


def generated(model, processor, prompt, prefix):
    """What `generate` writes greedily for a row on its own, with the processor's own inputs."""
    images = [prompt.row["images"]] if prompt.row["images"] else None
    inputs = processor(text=[prompt.text], images=images, add_special_tokens=False, return_tensors="pt")
    ids = torch.tensor(processor.tokenizer(prefix, add_special_tokens=False)["input_ids"]).long()[None]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1)
    config = GenerationConfig(
        max_new_tokens=6,
        min_new_tokens=1,
        suppress_tokens=image_token_ids(model.config, processor),
        pad_token_id=0,
        eos_token_id=processor.tokenizer.eos_token_id,
    )
    new = model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :]
    return processor.tokenizer.decode(new, skip_special_tokens=True).replace("\ufffd", "")  # bytes, no characters
