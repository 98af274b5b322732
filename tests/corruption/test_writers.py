import copy

import pytest
import torch
from support.openai_server import running_endpoint
from support.tiny import tiny_processor
from transformers import LlamaConfig, LlamaForCausalLM

from trl_mm.corruption.config import CorruptionConfig
from trl_mm.corruption.writers import LocalWriter, RemoteWriter


TEXT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
TEXTS = ["A dog.", "There is a red circle. There is a green square.", "No."]
SEEDS = [(0, str(index), 1) for index in range(3)]


def text_model():
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(tiny_processor().tokenizer)
    tokenizer.chat_template = TEXT_TEMPLATE
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **sizes))
    return model.eval(), tokenizer


def test_greedy_replies_are_those_of_generate():
    model, tokenizer = text_model()
    write = LocalWriter(model, tokenizer, CorruptionConfig(temperature=0, max_answer_tokens=6, batch_size=2))
    expected = []
    for text in TEXTS:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        new = model.generate(**ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids["input_ids"].shape[1] :]
        expected.append(tokenizer.decode(new, skip_special_tokens=True))
    assert write(TEXTS, SEEDS) == expected


def test_samples_derive_from_their_seeds_alone():
    model, tokenizer = text_model()
    write = LocalWriter(model, tokenizer, CorruptionConfig(temperature=1.0, max_answer_tokens=8, batch_size=3))
    together = write(TEXTS, SEEDS)
    assert [write([text], [seed])[0] for text, seed in zip(TEXTS, SEEDS, strict=True)] == together
    assert write(TEXTS, [(1, *seed[1:]) for seed in SEEDS]) != together


def test_a_model_without_a_chat_template_is_refused():
    model, tokenizer = text_model()
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="has no chat template"):
        LocalWriter(model, tokenizer, CorruptionConfig())


def test_an_endpoint_is_asked_once_for_each_text(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with running_endpoint(lambda text, images: f"{text}!") as endpoint:
        config = CorruptionConfig(temperature=0.5, max_answer_tokens=7)
        write = RemoteWriter("text", config, endpoint.url, options={"top_p": 0.9}, cache_dir=tmp_path)
        assert write(TEXTS, SEEDS) == write(TEXTS, SEEDS) == [f"{text}!" for text in TEXTS]
        assert len(endpoint.requests) == 3
        body = endpoint.requests[0]
        assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.5, 7, 0.9)
