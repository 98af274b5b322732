import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.tiny import save_tiny, tiny_image, tiny_model, tiny_processor
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers.integrations import deepspeed

from trl_mm.data.protocols import PairwiseJudge, judge_pairs
from trl_mm.generation import Completer, Request, SamplingSettings
from trl_mm.judges.pairwise import PairwiseVLMJudge
from trl_mm.judges.prompts import question


PROMPT = [{"role": "user", "content": "Describe the image."}]
PAIR = ("There is a red circle.", "There is a green square.")


class Zero3:
    """What transformers knows of a training with DeepSpeed."""

    def is_zero3(self):
        return True


def tiny_judge(model=None, **settings):
    return PairwiseVLMJudge(model or tiny_model(scale=8), tiny_processor(), max_new_tokens=16, **settings)


def judged(judge, image=0, pair=PAIR):
    (verdict,) = judge_pairs(judge, [PROMPT], [[tiny_image(image)]], [pair])
    return verdict


@pytest.fixture
def prefers_squares(monkeypatch):
    """The model says that the response with a square is better; list of all texts that it was asked."""
    asked = []

    def complete(self, model, requests):
        texts = [request.prompt.text for request in requests]
        asked.extend(texts)
        return [f"Better: Response {2 if 'square' in text.partition('[Response 2]')[2] else 1}" for text in texts]

    monkeypatch.setattr(Completer, "complete", complete)
    return asked


def test_the_replies_are_greedy_ones_to_both_orders():
    model = tiny_model(scale=8)
    completer = Completer(tiny_processor(), SamplingSettings(16, temperature=0.0))
    rows = [
        {"images": [tiny_image(0)], "prompt": [{"role": "user", "content": question(PROMPT, 1, *answers)}]}
        for answers in (PAIR, PAIR[::-1])
    ]
    replies = completer.complete(model, [Request(prompt) for prompt in completer.prompts(rows)])
    verdict = judged(tiny_judge(model))
    assert verdict.outcome == "invalid" and len(replies) == 2
    assert all(reply.strip() in verdict.text for reply in replies)


def test_the_judge_looks_at_the_image():
    judge = tiny_judge()
    assert judged(judge, image=0).text == judged(judge, image=0).text != judged(judge, image=1).text


def test_batches_change_nothing():
    pairs, images = [PAIR, ("A dog.", "A cat."), PAIR[::-1]], [[tiny_image(0)], [], [tiny_image(1), tiny_image(2)]]
    texts = [
        [verdict.text for verdict in tiny_judge(batch_size=size).verdicts([PROMPT] * 3, images, pairs)]
        for size in (1, 6)
    ]
    assert texts[0] == texts[1] and len(set(texts[0])) == 3


def test_replies_become_verdicts(prefers_squares):
    judge = tiny_judge()
    assert isinstance(judge, PairwiseJudge)
    pairs = [PAIR, PAIR[::-1], ("a", "b"), ("a", "a")]
    prompts, images = [PROMPT] * 4, [[tiny_image(0)]] * 4
    assert judge.judge(prompts, images, pairs) == [1, 0, None, None]
    found = judge_pairs(judge, prompts, images, pairs)
    assert [verdict.outcome for verdict in found] == ["clear", "clear", "inconsistent", "tie"]
    assert len(prefers_squares) == 12


def test_the_papers_style_asks_once(prefers_squares):
    judge = tiny_judge(style="paper", seed=1)
    pairs = [PAIR, PAIR[::-1], ("a square", "b"), ("a", "a")]
    images = [[tiny_image(index)] for index in range(4)]
    assert judge.judge([PROMPT] * 4, images, pairs) == [1, 0, 0, None]
    assert len(prefers_squares) == 3 and not any("Better:" in text for text in prefers_squares)
    orders = set()
    for seed in range(12):
        (verdict,) = tiny_judge(style="paper", seed=seed).verdicts([PROMPT], images[:1], pairs[:1])
        assert verdict.choice == 1
        orders |= {verdict.places}
    assert orders == {(0,), (1,)}, "the order derives from the seed"


def test_adapters_are_off_while_the_base_judges():
    base = judged(tiny_judge()).text
    torch.manual_seed(0)
    policy = get_peft_model(
        tiny_model(scale=8), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    policy.train()
    judge = tiny_judge(policy)
    assert judged(judge).text == base
    assert policy.training
    with_adapter = tiny_judge(policy.merge_and_unload())
    assert judged(with_adapter).text != base, "the adapter would have changed the reply"


def test_a_path_is_loaded_in_the_wanted_type(tmp_path):
    save_tiny(tmp_path, scale=8)
    judge = PairwiseVLMJudge(str(tmp_path), max_new_tokens=16, dtype="bfloat16", device="cpu")
    assert judge.model.dtype == torch.bfloat16 and not judge.model.training
    assert not any(parameter.requires_grad for parameter in judge.model.parameters())
    loaded = PairwiseVLMJudge(str(tmp_path), max_new_tokens=16, device="cpu")
    assert judged(loaded).text == judged(tiny_judge()).text


def test_a_path_is_loaded_in_4_bits(tmp_path):
    save_tiny(tmp_path, scale=8, width=4)
    judge = PairwiseVLMJudge(str(tmp_path), max_new_tokens=16, device="cpu", load_in_4bit=True)
    assert not judge.model.base_model.language_model.layers[0].mlp.up_proj.weight.is_floating_point()
    assert judged(judge).text.count("order: ") == 2


def test_the_judge_of_a_training_with_zero3_is_whole(tmp_path, monkeypatch):
    """Under ZeRO-3 transformers splits what it loads, and `generate` waits for the other processes."""
    save_tiny(tmp_path)
    training = Zero3()
    deepspeed.set_hf_deepspeed_config(training)
    seen = []
    complete = Completer.complete

    def watched(*args):
        seen.append(deepspeed.is_deepspeed_zero3_enabled())
        return complete(*args)

    monkeypatch.setattr(Completer, "complete", watched)
    try:
        assert deepspeed.is_deepspeed_zero3_enabled()
        judged(PairwiseVLMJudge(str(tmp_path), max_new_tokens=16, device="cpu"))
        assert seen == [False]
        assert deepspeed.is_deepspeed_zero3_enabled(), "the training's own setting is back"
    finally:
        deepspeed.unset_hf_deepspeed_config()


def test_weights_that_are_spread_over_processes_are_refused():
    model = tiny_model()
    next(model.parameters()).ds_id = 0
    with pytest.raises(ValueError, match="ZeRO-3.*Pass the name of the model"):
        judged(tiny_judge(model))


def test_what_spells_a_control_token_stays_inside_its_answer(prefers_squares):
    judged(tiny_judge(), pair=("A square.</s> <image>", "A cat.<pad>"))
    for text in prefers_squares:
        assert text.count("<image>") == 1 and "<pad>" not in text
        assert text.count("</s>") == tiny_processor().apply_chat_template(PROMPT, tokenize=False).count("</s>")


def test_a_question_that_does_not_fit_makes_the_pair_invalid(prefers_squares, caplog):
    pairs = [PAIR, ("square " * 5000, "circle"), PAIR]
    found = tiny_judge().verdicts([PROMPT] * 3, [[tiny_image(0)]] * 3, pairs)
    assert [verdict.outcome for verdict in found] == ["clear", "invalid", "clear"]
    assert "2 of 6 questions are longer than the judge can read (4096 tokens)" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"processor": None}, "`processor` is needed"),
        ({"style": "once"}, "`style` must be one of both_orders, paper, got 'once'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"max_new_tokens": 8}, "`max_new_tokens` must be at least 16"),
        ({"load_in_4bit": True, "quantization_config": BitsAndBytesConfig()}, "two ways to quantize"),
        ({"quantization_config": BitsAndBytesConfig()}, "quantize it when it is loaded"),
    ],
)
def test_wrong_arguments_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PairwiseVLMJudge(tiny_model(), **{"processor": tiny_processor(), **settings})


def test_a_text_only_judge_is_refused(tmp_path):
    config = LlamaConfig(
        vocab_size=360, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tiny_processor.__wrapped__().tokenizer.save_pretrained(tmp_path)  # a new one, of no processor
    with pytest.raises(ValueError, match="no vision-language model. Pass one such as llava-hf/"):
        PairwiseVLMJudge(str(tmp_path))
