import pytest
import torch
from support.rows import image_dataset
from support.tiny import tiny_image, tiny_processor, tiny_row
from transformers import AutoModelForSequenceClassification

from trl_mm import MMOnlineDPOConfig, MMOnlineDPOTrainer, RewardJudge
from trl_mm.reward.blind import with_exchanged_images
from trl_mm.reward.scorer import RewardModel, load_reward_model


QUESTION = [{"role": "user", "content": "What is it?"}]


def said(text):
    return [{"role": "assistant", "content": text}]


@pytest.fixture(scope="module")
def reward_model(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


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


def test_a_model_without_a_trained_score_is_refused(checkpoint):
    with pytest.raises(ValueError, match="has no trained score"):
        RewardModel(checkpoint)


def test_exchanged_images_are_those_of_another_row():
    rows = image_dataset([{**tiny_row(seed), "row_id": str(seed)} for seed in range(5)])
    exchanged = with_exchanged_images(rows, seed=1)
    assert exchanged["row_id"][:] == rows["row_id"][:] and exchanged["chosen"][:] == rows["chosen"][:]
    own = [row["images"][0].tobytes() for row in rows]
    other = [row["images"][0].tobytes() for row in image_dataset_of(exchanged)]
    assert sorted(own) == sorted(other) and all(a != b for a, b in zip(own, other, strict=True))
    with pytest.raises(ValueError, match="No two rows have as many images"):
        with_exchanged_images(rows.select([0]))


def image_dataset_of(rows):
    from datasets import Image, List

    return rows.cast_column("images", List(Image()))
