"""An engine in the place of vLLM's, which no test runs: it notes what it is handed and answers with transformers."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import torch
from transformers import GenerationConfig


class Parameters(SimpleNamespace):
    """`SamplingParams` as far as they are used; another name is an error, as it is there."""

    KNOWN = {"temperature", "top_p", "seed", "max_tokens", "min_tokens", "logit_bias", "stop_token_ids", "detokenize"}

    def __init__(self, **settings):
        assert settings.keys() <= self.KNOWN
        super().__init__(**settings)


class FakeVLLM:
    """Greedy answers of a model of transformers to prompts in the form of vLLM."""

    def __init__(self, model, processor, options=None):
        self.model, self.processor, self.options, self.calls = model, processor, options, []

    def generate(self, prompts, settings, use_tqdm):
        assert use_tqdm is False
        self.calls.append(list(zip(prompts, settings, strict=True)))
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=self._ids(*asked))]) for asked in self.calls[-1]]

    def _ids(self, prompt, settings):
        config = GenerationConfig(
            max_new_tokens=settings.max_tokens,
            min_new_tokens=settings.min_tokens,
            suppress_tokens=[token for token, bias in settings.logit_bias.items() if bias == -100],
            eos_token_id=settings.stop_token_ids,
            pad_token_id=0,
        )
        if "prompt_embeds" in prompt:
            embeds = prompt["prompt_embeds"][None]
            mask = torch.ones(embeds.shape[:2], dtype=torch.long)
            return self.model.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=config)[0].tolist()
        inputs = self._read(prompt["prompt_token_ids"], prompt.get("multi_modal_data", {}).get("image"))
        return self.model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :].tolist()

    def _read(self, ids, images):
        """Ids with their placeholders expanded; images in the middle of them as the processor reads them."""
        if not images:
            return {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        image = self.processor.image_token_id
        assert ids.count(image) == len(images)
        read = self.processor(text=self.processor.image_token * len(images), images=[images], return_tensors="pt")
        runs = iter(self._runs(images))
        expanded = [token for given in ids for token in (next(runs) if given == image else [given])]
        read["input_ids"] = torch.tensor([expanded])
        read["attention_mask"] = torch.ones_like(read["input_ids"])
        return dict(read)

    def _runs(self, images):
        token = self.processor.image_token
        for image in images:
            yield self.processor(text=token, images=[image], add_special_tokens=False)["input_ids"][0]


def install(monkeypatch, processor, model_of):
    """Put a module `vllm` in place whose engines run `model_of(path)`; returns those that are started (`list`)."""
    module, started = ModuleType("vllm"), []
    module.__spec__ = ModuleSpec("vllm", None)

    def start(model, **options):
        started.append(FakeVLLM(model_of(model), processor, {"model": model, **options}))
        return started[-1]

    module.LLM, module.SamplingParams = start, Parameters
    monkeypatch.setitem(sys.modules, "vllm", module)
    return started
