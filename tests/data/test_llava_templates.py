"""What each LLaVA-1.6 reads, as text and as ids: the same in training, sampling, judging and evaluation."""

from types import SimpleNamespace

import pytest
from support.templates import SYSTEM, llama_like
from support.tiny import tiny_image, tiny_model

from trl_mm.eval.answers import answer_questions
from trl_mm.generation import Completer, Request
from trl_mm.generation.inputs import model_inputs
from trl_mm.judges.pairwise import PairwiseVLMJudge
from trl_mm.tokens.chat import prompt_ids, render, text_ids
from trl_mm.tokens.collator import PreferenceCollator
from trl_mm.trainer.vision_processor import vision_processor


NAMES = ["vicuna", "mistral", "34b"]
TURNS = [
    {"role": "user", "content": "Is it late?"},
    {"role": "assistant", "content": "No."},
    {"role": "user", "content": "Describe the image."},
]
# As LLaVA was trained, but for what the templates on the Hub do otherwise: no space in front of `</s>` and one behind
# it on Mistral, and a second line break behind a role of the 34B
TEXTS = {
    "vicuna": (
        f"{SYSTEM['vicuna']} USER: <image>\nIs it late? ASSISTANT: No.</s>USER: Describe the image. ASSISTANT:",
        " A cat.</s>",
    ),
    "mistral": ("[INST] <image>\nIs it late? [/INST] No.</s> [INST] Describe the image. [/INST]", " A cat.</s>"),
    "34b": (
        "<|im_start|>system\n\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nIs it late?<|im_end|>"
        "<|im_start|>assistant\n\nNo.<|im_end|><|im_start|>user\n\nDescribe the image.<|im_end|>"
        "<|im_start|>assistant\n",
        "\nA cat.<|im_end|>",
    ),
}
TOKENS = {
    "vicuna": "<s> ▁A ▁chat ▁between ▁a ▁curious ▁user ▁and ▁an ▁artificial ▁intelligence ▁assistant . ▁The "
    "▁assistant ▁gives ▁helpful , ▁detailed , ▁and ▁polite ▁answers ▁to ▁the ▁user 's ▁questions . ▁USER : ▁ <image> "
    "<0x0A> Is ▁it ▁late ? ▁ASSISTANT : ▁No . </s> USER : ▁Describe ▁the ▁image . ▁ASSISTANT : | ▁A ▁cat . </s>",
    "mistral": "<s> ▁[ INST ] ▁ <image> <0x0A> Is ▁it ▁late ? ▁[/ INST ] ▁No . </s> ▁[ INST ] ▁Describe ▁the ▁image . "
    "▁[/ INST ] | ▁A ▁cat . </s>",
    "34b": "<|im_start|> system <0x0A> <0x0A> Answer ▁the ▁questions . <|im_end|> <|im_start|> user <0x0A> <image> "
    "<0x0A> Is ▁it ▁late ? <|im_end|> <|im_start|> assistant <0x0A> <0x0A> No . <|im_end|> <|im_start|> user <0x0A> "
    "<0x0A> Describe ▁the ▁image . <|im_end|> <|im_start|> assistant <0x0A> | ▁ <0x0A> A ▁cat . <|im_end|>",
}


def row(prompt=TURNS, **columns):
    return {
        "images": [tiny_image()],
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": "A cat."}],
        "rejected": [{"role": "assistant", "content": "A dog."}],
        "row_id": "0",
        **columns,
    }


def processor_of(name, **settings):
    args = SimpleNamespace(system_prompt=SYSTEM.get(name), model_init_kwargs=None, trust_remote_code=False)
    return vision_processor(name, args, llama_like(name, **settings))


def trained(processor, row, **settings):
    """Prompt and chosen answer of a batch, as ids."""
    batch = PreferenceCollator(processor, **settings)([row])
    real = batch["attention_mask"][0].bool()
    ids, answer = batch["input_ids"][0][real], batch["completion_mask"][0][real].bool()
    return ids[~answer].tolist(), ids[answer].tolist()


def asked(monkeypatch, call):
    """Ids of the prompts that a model would be asked in a call."""
    found = []

    def complete(self, model, requests, *args, **kwargs):
        inputs = model_inputs(model, self.processor, requests, [[]] * len(requests))
        found.extend(ids[keep.bool()].tolist() for ids, keep in zip(*inputs_of(inputs), strict=True))
        assert found == [request.prompt.ids.tolist() for request in requests]
        return ["Better: tie"] * len(requests)

    def inputs_of(inputs):
        return inputs["input_ids"], inputs["attention_mask"]

    with monkeypatch.context() as patch:
        patch.setattr(Completer, "complete", complete)
        call()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_conversation_is_read_as_text_and_ids(name):
    processor = processor_of(name)
    made = render(row(), processor)
    assert (made.prompt, made.lead + made.answer + made.tail) == TEXTS[name]
    count = len([token for token in prompt_ids(processor, made.prompt, row()["images"]) if token == 4])
    expected = [
        processor.tokenizer.convert_tokens_to_ids(
            [token for word in part.split() for token in [word] * (count if word == "<image>" else 1)]
        )
        for part in TOKENS[name].split(" | ")
    ]
    assert list(trained(processor, row())) == expected
    assert list(trained(processor, row(), images_per_prompt=True)) == expected
    assert [prompt_ids(processor, made.prompt, row()["images"]), text_ids(processor, TEXTS[name][1])] == expected
    inputs = model_inputs(tiny_model(), processor, [Request(Completer(processor).prompts([row()])[0])], [[]])
    assert inputs["input_ids"].tolist() == expected[:1]


@pytest.mark.parametrize("name", NAMES)
def test_training_sampling_judging_and_evaluation_read_the_same(name, tmp_path, monkeypatch):
    processor, model = processor_of(name), tiny_model()
    question = row(TURNS[-1:])
    tiny_image().save(tmp_path / "image.png")
    questions = [{"image": str(tmp_path / "image.png"), "question": "Describe the image."}]
    expected = trained(processor, question)[0]
    completer = Completer(processor)
    assert asked(monkeypatch, lambda: completer.complete(model, requests_of(completer, question))) == [expected]
    answers = tmp_path / "answers"
    assert asked(monkeypatch, lambda: answer_questions(model, processor, questions, answers, {})) == [expected]

    judge = PairwiseVLMJudge(model, llama_like(name), system_prompt=SYSTEM.get(name))
    monkeypatch.setattr("trl_mm.judges.prompts.question", lambda prompt, *_: prompt[0]["content"])
    verdicts = asked(monkeypatch, lambda: judge.judge([question["prompt"]], [question["images"]], [("A.", "B.")]))
    assert verdicts == [expected, expected]


def requests_of(completer, *rows):
    return [Request(prompt) for prompt in completer.prompts(list(rows))]


def test_several_messages_in_chosen_end_each():
    processor = processor_of("vicuna")
    chosen = [*TURNS[1:], {"role": "assistant", "content": "A cat."}]
    made = render(row(TURNS[:1], chosen=chosen), processor)
    assert made.lead + made.answer + made.tail == " No.</s>USER: Describe the image. ASSISTANT: A cat.</s>"
    assert (made.answer, made.tail) == ("A cat.", "</s>")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", ["{}", " {} ", "{}{}", "{}\n"])
def test_ends_that_were_put_there_by_hand_are_not_doubled(name, end):
    processor = processor_of(name)
    end = end.replace("{}", processor.tokenizer.eos_token)
    turns = [{**turn, "content": turn["content"] + (end if turn["role"] == "assistant" else "")} for turn in TURNS]
    by_hand = row(turns, chosen=[{"role": "assistant", "content": "A cat." + end}])
    assert trained(processor, by_hand) == trained(processor, row())
    assert render(by_hand, processor) == render(row(), processor)


def test_the_misspelt_end_of_mistral_is_repaired(caplog):
    processor = processor_of("mistral", end="<\\s> ")
    made = render(row(), processor)
    assert made.tail == "</s>" and made.prompt == TEXTS["mistral"][0].replace("</s> ", "</s>")
    assert "no EOS token, so the model" not in caplog.text


def test_an_unknown_end_is_warned_of(caplog):
    processor = processor_of("mistral", end=" ### ")
    assert "writes ' ### ' after an answer, which is no EOS token" in caplog.text and "write </s> there" in caplog.text
    assert render(row(), processor).tail == " ###"
