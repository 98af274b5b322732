"""A system prompt in training: the same as rows that say it, and kept by the model that is saved."""

import json

import pytest
from support.rows import image_dataset
from support.tiny import TRAINING, tiny_image, tiny_processor, tiny_row
from support.training import FirstIsBetter, losses
from transformers import AutoProcessor

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer
from trl_mm.generation import answers as samples
from trl_mm.tokens.chat import render
from trl_mm.tokens.chat_template import system_prompt_of


TEXT = "Be short."


def rows(system=None, **columns):
    made = [{**tiny_row(seed), **columns} for seed in range(2)]
    if system:
        made = [{**row, "prompt": [{"role": "system", "content": system}, *row["prompt"]]} for row in made]
    return image_dataset(made)


def arguments(folder, cls=MMDPOConfig, **settings):
    return cls(str(folder), per_device_train_batch_size=2, max_steps=1, logging_steps=1, **TRAINING, **settings)


def test_dpo_trains_as_on_rows_that_say_it(checkpoint, tmp_path):
    rejected = [{"role": "assistant", "content": "There is a dog."}]
    settings = {"precompute_ref_log_probs": True, "ref_log_probs_dir": str(tmp_path / "cache")}

    def trainer(name, system=None, **more):
        dataset = rows(system, rejected=rejected)
        return MMDPOTrainer(checkpoint, args=arguments(tmp_path / name, **settings, **more), train_dataset=dataset)

    ours, said, without = trainer("ours", system_prompt=TEXT), trainer("said", TEXT), trainer("without")
    values = [made.train_dataset["ref_chosen_logps"][:] for made in (ours, said, without)]
    assert values[0] == pytest.approx(values[1]) and values[0] != pytest.approx(values[2])
    assert len(list((tmp_path / "cache").iterdir())) >= 3
    assert (ours.fit_report["train"].counts.prompt == said.fit_report["train"].counts.prompt).all()
    assert losses(ours) == pytest.approx(losses(said))
    ours.save_model(str(tmp_path / "ours"))
    saved = AutoProcessor.from_pretrained(tmp_path / "ours")
    assert system_prompt_of(saved) == TEXT
    assert render(tiny_row(), saved).prompt.startswith(f"SYSTEM: {TEXT}")
    ours.recipe = {}
    ours.create_model_card()
    assert f"system_prompt: {TEXT}" in (tmp_path / "ours" / "README.md").read_text()


@pytest.mark.parametrize("online", [True, False])
def test_pairs_of_another_system_prompt_are_refused(checkpoint, tmp_path, online):
    config = BDHSConfig(similarity="lexical", max_attempts=1, max_sentence_tokens=4)

    def run(system):
        generator = BDHSDataGenerator(config, online=online, save_to=str(tmp_path / "pairs"))
        losses(
            MMDPOTrainer(
                checkpoint,
                args=arguments(tmp_path / "out", system_prompt=system),
                train_dataset=rows(),
                callbacks=[generator],
            )
        )

    run(TEXT)
    manifest = json.loads((tmp_path / "pairs" / "manifest.json").read_text())
    assert manifest["settings"]["system_prompt"] == TEXT
    with pytest.raises(ValueError, match='`system_prompt` is "Be short." there and "Be long." here'):
        run("Be long.")
    with pytest.raises(ValueError, match='`system_prompt` is "Be short." there and not set here'):
        run(None)


def keep_texts(read, model_inputs):
    def inputs(model, processor, requests, continued):
        read.extend(request.prompt.text for request in requests)
        return model_inputs(model, processor, requests, continued)

    return inputs


def test_online_dpo_samples_and_scores_with_it(checkpoint, tmp_path, monkeypatch):
    dataset = rows().select_columns(["images", "prompt", "row_id"])
    args = arguments(tmp_path, MMOnlineDPOConfig, system_prompt=TEXT, max_new_tokens=4)
    trainer = MMOnlineDPOTrainer(checkpoint, judge=FirstIsBetter(), args=args, train_dataset=dataset)
    read, collate = [], trainer.pair_collator
    monkeypatch.setattr(samples, "model_inputs", keep_texts(read, samples.model_inputs))
    batches = []
    monkeypatch.setattr(trainer, "pair_collator", lambda pairs: batches.append(collate(pairs)) or {**batches[-1]})
    trainer.train()
    expected = render(
        {"images": [tiny_image()], "prompt": [{"role": "system", "content": TEXT}, *tiny_row()["prompt"]]},
        tiny_processor(),
    ).prompt
    assert set(read) == {expected}
    prompts = [
        ids[keep.bool() & ~answer.bool()]
        for batch in batches
        for ids, keep, answer in zip(
            batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True
        )
    ]
    processor = trainer.processing_class
    decoded = {processor.tokenizer.decode(ids[ids != processor.image_token_id]) for ids in prompts}
    assert decoded == {expected.replace("<image>", "")}
