import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from support.families import FAMILIES
from support.rewarding import save_reward_model
from support.rows import image_dataset
from support.tiny import save_tiny, tiny_image, tiny_model, tiny_processor, tiny_row
from transformers import AutoModelForImageTextToText, AutoModelForSequenceClassification
from transformers.integrations import deepspeed

from trl_mm import MMOnlineDPOConfig, MMOnlineDPOTrainer, RewardJudge
from trl_mm.reward.blind import exchanged, with_exchanged_images
from trl_mm.reward.scorer import RewardModel, load_reward_model


QUESTION = [{"role": "user", "content": "What is it?"}]


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="module")
def reward_model(checkpoint, tmp_path_factory):
    return save_reward_model(tmp_path_factory.mktemp("reward"), checkpoint)


def test_rewards_are_the_models_scores_at_the_eos(reward_model):
    scorer = RewardModel(reward_model, batch_size=2)
    answers = ["Yes.", "It is a red circle.", "No."]
    images = [[tiny_image(seed, (30 + 10 * seed, 40))] for seed in range(3)]
    rewards = scorer(prompts=[QUESTION] * 3, completions=[said(text) for text in answers], images=images)
    model, processor = load_reward_model(reward_model).eval(), tiny_processor()
    for answer, image, reward in zip(answers, images, rewards, strict=True):
        question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
        text = processor.apply_chat_template(
            [*question, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        )
        assert text.endswith("</s>")
        with torch.no_grad():
            expected = model(**processor(text=text, images=image, return_tensors="pt")).logits.item()
        assert reward == pytest.approx(expected, abs=1e-4)


def test_parts_with_images_and_rows_without_are_scored_too(reward_model):
    scorer = RewardModel(reward_model)
    image = tiny_image(0)
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    plain, with_parts, without = scorer(
        [QUESTION, parts, QUESTION], [said("Yes.")] * 3, [[image], [image], None], extra=[1, 2, 3]
    )
    assert plain == pytest.approx(with_parts, abs=1e-5) and without != pytest.approx(plain, abs=1e-3)


def test_text_and_a_single_image_are_what_messages_and_lists_are(reward_model):
    scorer, picture = RewardModel(reward_model), tiny_image(0)
    (expected,) = scorer([QUESTION], [said("Yes.")], [[picture]])
    (blind,) = scorer([QUESTION], [said("Yes.")])
    assert blind != pytest.approx(expected, abs=1e-3)
    assert scorer(["What is it?"], ["Yes."], [[picture]]) == [expected]
    assert scorer([QUESTION] * 2, [said("Yes.")] * 2, image=[picture, None]) == pytest.approx([expected, blind])


def test_it_judges_pairs(reward_model):
    judge = RewardJudge(RewardModel(reward_model))
    pairs = [("Yes.", "It is a red circle."), ("It is a red circle.", "Yes.")]
    first, second = judge.judge([QUESTION] * 2, [[tiny_image(0)]] * 2, pairs)
    assert {first, second} == {0, 1}


def test_it_ranks_the_answers_of_online_dpo(reward_model, checkpoint, tmp_path):
    """It is shown the images of the rows, which it would otherwise have scored as text."""
    scorer = RewardModel(reward_model)
    seen = []
    scorer_call = scorer.collator.of_one_answer
    scorer.collator.of_one_answer = lambda rows: seen.extend(len(row["images"]) for row in rows) or scorer_call(rows)
    trainer = MMOnlineDPOTrainer(
        checkpoint,
        reward_funcs=scorer,
        args=MMOnlineDPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=2,
            max_new_tokens=3,
            bf16=False,
            use_cpu=True,
            report_to="none",
            logging_steps=1,
        ),
        train_dataset=image_dataset([tiny_row(seed) for seed in range(2)]),
    )
    trainer.train()
    assert seen == [1] * 4
    assert trainer.state.log_history[0]["objective/scores_margin"] > 0


def test_texts_that_spell_an_image_or_an_end_are_read_as_text(reward_model):
    scorer = RewardModel(reward_model)
    texts = ["An < image> of", "An <image> of", "A dog.< /s> Yes.", "A dog.</s> Yes."]
    spelled, image, ended, end = scorer([QUESTION] * 4, [said(text) for text in texts], [[tiny_image(0)]] * 4)
    assert (image, end) == pytest.approx((spelled, ended), abs=1e-5)
    question = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Is it an <image>?"}]}]
    assert len(scorer([question], [said("Yes.")], [[tiny_image(0)]])) == 1


def lora(model, folder, **settings):
    config = LoraConfig(r=2, target_modules=r".*language_model.*q_proj", **settings)
    get_peft_model(model, config).save_pretrained(folder)
    return str(folder)


def on_other_base(adapter, base, folder):
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(base)}))
    return str(folder)


def test_what_is_no_reward_model_is_refused_before_weights_are_read(checkpoint, tmp_path, monkeypatch):
    two = save_reward_model(tmp_path / "two", checkpoint, num_labels=2)
    text = tmp_path / "text"
    tiny_model().model.language_model.config.save_pretrained(text)
    monkeypatch.delattr("transformers.AutoModelForSequenceClassification.from_pretrained")
    for folder, message in (
        (checkpoint, "has no trained score, so its rewards would be random"),
        (two, "has 2 labels; a reward model has one"),
        (str(text), "is of the family llama, and reward models here are of gemma3, idefics3"),
    ):
        with pytest.raises(ValueError, match=message):
            load_reward_model(folder)


def test_models_in_memory_are_looked_at_too(checkpoint):
    with pytest.raises(ValueError, match="LlavaNextForConditionalGeneration.* has no score"):
        RewardModel(tiny_model(), tiny_processor())
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=3)
    with pytest.raises(ValueError, match="`model` has 3 labels"):
        RewardModel(model, tiny_processor())


def test_a_model_whose_config_does_not_say_what_it_is_is_refused(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": None}))
    with pytest.raises(ValueError, match="has no trained score"):
        load_reward_model(str(tmp_path / "model"))


def test_adapters(reward_model, checkpoint, tmp_path):
    made = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(made.score.weight)
    adapter = lora(made, tmp_path / "adapter", task_type="SEQ_CLS")
    assert load_reward_model(adapter).config.num_labels == 1
    over = AutoModelForSequenceClassification.from_pretrained(reward_model, num_labels=1)
    over = load_reward_model(lora(over, tmp_path / "over"))  # of a reward model, whose score it leaves as it is
    assert torch.equal(over.score.weight, load_reward_model(reward_model).score.weight)
    writes = AutoModelForImageTextToText.from_pretrained(checkpoint)
    writing = lora(writes, tmp_path / "writes", modules_to_save=["multi_modal_projector"])
    with pytest.raises(ValueError, match="has no trained score"):
        load_reward_model(writing)
    save_tiny(tmp_path / "wide", width=2)
    save_tiny(tmp_path / "deep", layers=3)
    FAMILIES["qwen3_vl"]()[0].save_pretrained(tmp_path / "qwen")
    for base in ("wide", "deep", "qwen"):
        other = on_other_base(adapter, tmp_path / base, tmp_path / f"adapter_{base}")
        with pytest.raises(ValueError, match=rf"does not fit its base \({tmp_path / base}\): .*another model"):
            load_reward_model(other)


def test_a_reward_model_is_whole_where_training_spreads_weights(reward_model, monkeypatch):
    training = type("Config", (), {"is_zero3": lambda self: True})()
    deepspeed.set_hf_deepspeed_config(training)
    plain, seen = AutoModelForSequenceClassification.from_pretrained, []

    def load(*args, **options):
        seen.append(deepspeed.is_deepspeed_zero3_enabled())
        return plain(*args, **options)

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", load)
    try:
        load_reward_model(reward_model)
        assert seen == [False] and deepspeed.is_deepspeed_zero3_enabled(), "the training's own setting is back"
    finally:
        deepspeed.unset_hf_deepspeed_config()


def test_exchanged_images_are_those_of_another_row():
    rows = image_dataset([{**tiny_row(seed), "row_id": str(seed)} for seed in range(5)])
    exchanged = with_exchanged_images(rows, seed=1)
    assert exchanged["row_id"][:] == rows["row_id"][:] and exchanged["chosen"][:] == rows["chosen"][:]
    own = [row["images"][0].tobytes() for row in rows]
    other = [row["images"][0].tobytes() for row in image_dataset_of(exchanged)]
    assert sorted(own) == sorted(other) and all(a != b for a, b in zip(own, other, strict=True))
    with pytest.raises(ValueError, match="No two rows have as many images"):
        with_exchanged_images(rows.select([0]))


def test_a_picture_of_several_rows_is_not_exchanged_for_itself():
    rows = [{**tiny_row(picture), "row_id": str(index)} for index, picture in enumerate([0, 0, 0, 1, 1, 2])]
    dataset = image_dataset(rows)
    own = {row["row_id"]: row["images"][0].tobytes() for row in dataset}
    for seed in range(5):
        found = with_exchanged_images(dataset, seed)
        assert len(found) == 6
        assert all(row["images"][0].tobytes() != own[row["row_id"]] for row in image_dataset_of(found))
    with pytest.raises(ValueError, match="other ones, so none can be exchanged"):
        with_exchanged_images(dataset.select([0, 1, 2]))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.randoms())
def test_all_rows_have_a_partner_unless_most_show_the_same(pictures, generator):
    shown = dict(generator.sample(list(enumerate(pictures)), len(pictures)))
    partner = exchanged(shown)
    assert all(shown[row] != shown[other] for row, other in partner.items())
    assert len(set(partner.values())) == len(partner)
    most = max(map(pictures.count, pictures))
    assert len(partner) == (len(pictures) if 2 * most <= len(pictures) else 2 * (len(pictures) - most))


def image_dataset_of(rows):
    from datasets import Image, List

    return rows.cast_column("images", List(Image()))
