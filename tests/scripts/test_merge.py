import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from support.rows import image_dataset, tiny_pairs
from support.tiny import tiny_image, tiny_model, tiny_processor
from transformers import (
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoProcessor,
    LlavaNextForConditionalGeneration,
)

from trl_mm import MMDPOConfig, MMDPOTrainer
from trl_mm.reward.scorer import load_reward_model
from trl_mm.scripts.merge import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`base`, and `adapter`: LoRA and a projector that are trained."""
    folder = tmp_path_factory.mktemp("merge")
    model = tiny_model(scale=4)
    model.generation_config.update(do_sample=True, temperature=0.3)
    model.save_pretrained(folder / "base")
    tiny_processor().save_pretrained(folder / "base")
    rows = tiny_pairs(2, "A dog.")
    trainer = MMDPOTrainer(
        str(folder / "base"),
        args=MMDPOConfig(
            str(folder / "adapter"),
            max_steps=3,
            learning_rate=1e-2,
            projector_learning_rate=1e-2,
            report_to="none",
            save_strategy="no",
            bf16=False,
            use_cpu=True,
        ),
        train_dataset=image_dataset(rows),
        peft_config=LoraConfig(r=2, lora_alpha=8),
    )
    trainer.train()
    trainer.save_model()
    return folder


def merge(folder, output, *flags):
    main(["--model_name_or_path", str(folder / "adapter"), "--output_dir", str(output), *flags])
    return AutoModelForImageTextToText.from_pretrained(output)


def logits(model, folder):
    processor = AutoProcessor.from_pretrained(folder)
    text = "USER: <image>\nDescribe the image. ASSISTANT: There is"
    inputs = processor(images=[tiny_image(7)], text=[text], return_tensors="pt").to(model.device, model.dtype)
    with torch.no_grad():
        return model.eval()(**inputs).logits


def test_a_merged_reward_model_keeps_its_score(folder, tmp_path):
    model = load_scored(folder / "base")
    made = get_peft_model(model, LoraConfig(r=2, target_modules=r".*language_model.*q_proj", task_type="SEQ_CLS"))
    for name, weight in made.named_parameters():
        if "lora_B" in name or "score" in name:
            torch.nn.init.normal_(weight)
    made.save_pretrained(tmp_path / "adapter")
    main(["--model_name_or_path", str(tmp_path / "adapter"), "--output_dir", str(tmp_path / "merged")])
    merged = load_reward_model(str(tmp_path / "merged"))  # which refuses a score that was not trained
    assert not hasattr(merged, "peft_config")
    found, expected = (logits(scored, folder / "base") for scored in (merged, made))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert expected.shape == (1, 1) and not torch.equal(
        expected, logits(load_scored(folder / "base"), folder / "base")
    )


def load_scored(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)


def test_the_merged_model_is_plain_and_answers_as_the_adapter_does(folder, tmp_path, capsys):
    merged = merge(folder, tmp_path / "merged")
    assert f"Model in {tmp_path / 'merged'}" in capsys.readouterr().out
    assert type(merged) is LlavaNextForConditionalGeneration and not (tmp_path / "merged.partial").exists()
    assert not any("lora" in name or "modules_to_save" in name for name, _ in merged.named_parameters())
    assert merged.generation_config.temperature == 0.3
    adapter = AutoModelForImageTextToText.from_pretrained(folder / "adapter")
    base = AutoModelForImageTextToText.from_pretrained(folder / "base")
    expected = logits(adapter, folder / "adapter")
    torch.testing.assert_close(logits(merged, tmp_path / "merged"), expected, rtol=1e-4, atol=1e-4)
    assert (logits(base, folder / "base") - expected).abs().max() > 1e-2
    for part in ("multi_modal_projector.linear_1.weight", "language_model.layers.0.self_attn.q_proj.weight"):
        assert not torch.equal(merged.base_model.get_parameter(part), base.base_model.get_parameter(part)), part


@pytest.mark.filterwarnings("ignore:.*(tie_word_embeddings|save_embedding_layers|no longer tied):UserWarning")
@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["q_proj", "embed_tokens"], ["lm_head", "embed_tokens"]])
def test_embeddings_that_share_a_weight_part_where_one_is_adapted(folder, tmp_path, targets):
    base = tiny_model(scale=4)
    base.config.tie_word_embeddings = base.config.text_config.tie_word_embeddings = True
    base.tie_weights()
    base.save_pretrained(tmp_path / "base")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    tiny_processor().save_pretrained(tmp_path / "adapter")
    merged = merge(tmp_path, tmp_path / "merged")
    expected = logits(model, folder / "base")
    torch.testing.assert_close(logits(merged, folder / "base"), expected, rtol=1e-4, atol=1e-4)


def with_a_new_token(base, folder, resized=None, **settings):
    """An adapter of the base in `folder/adapter`, with a token that the base does not know; the model as trained."""
    model = AutoModelForImageTextToText.from_pretrained(base)
    processor = AutoProcessor.from_pretrained(base)
    processor.tokenizer.add_tokens(["<new>"])
    model.resize_token_embeddings(len(processor.tokenizer))
    if resized:
        model.save_pretrained(resized)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], **settings))
    model.save_pretrained(folder / "adapter")
    processor.save_pretrained(folder / "adapter")
    return model


@pytest.mark.parametrize(
    "settings",
    [{}, {"trainable_token_indices": {"embed_tokens": [351]}}, {"modules_to_save": ["embed_tokens"]}],
    ids=["lora", "rows alone", "no head"],
)
def test_a_token_that_the_merge_would_lose_is_refused(folder, tmp_path, settings):
    with_a_new_token(folder / "base", tmp_path, **settings)
    with pytest.raises(ValueError, match="1 tokens, such as '<new>', .*351 rows.*--lora_modules_to_save .*embed_tok"):
        merge(tmp_path, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("how", ["in the adapter", "in the base", "tied"])
def test_a_token_that_was_added_is_merged(folder, tmp_path, how):
    base, flags, settings = folder / "base", [], {"modules_to_save": ["embed_tokens", "lm_head"]}
    if how == "tied":
        base, settings = tmp_path / "tied", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
        model = tiny_model(scale=4)
        model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
        model.tie_weights()
        model.save_pretrained(base)
        tiny_processor().save_pretrained(base)
    if how == "in the base":
        settings, flags = {}, ["--base_model_name_or_path", str(tmp_path / "base")]
    model = with_a_new_token(base, tmp_path, tmp_path / "base" if flags else None, **settings)
    merged = merge(tmp_path, tmp_path / "merged", *flags)
    assert merged.config.text_config.vocab_size == 352
    for layer in (merged.get_input_embeddings(), merged.get_output_embeddings()):
        assert layer.weight.shape[0] == 352
    expected = logits(model, tmp_path / "adapter")
    torch.testing.assert_close(logits(merged, tmp_path / "merged"), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape[-1] == 352


def test_another_data_type(folder, tmp_path):
    merge(folder, tmp_path / "merged", "--dtype", "bfloat16")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_projector_in_float32_is_kept_so_if_asked(folder, tmp_path):
    """A base in bfloat16 rounds it."""
    LlavaNextForConditionalGeneration.from_pretrained(folder / "base").bfloat16().save_pretrained(tmp_path / "base")
    trained = load_file(folder / "adapter" / "adapter_model.safetensors")
    trained = next(value for name, value in trained.items() if name.endswith("multi_modal_projector.linear_1.weight"))
    rounded = trained.bfloat16()
    assert not torch.equal(rounded.float(), trained)
    for dtype, expected in (("auto", rounded), ("float32", trained)):
        merged = merge(folder, tmp_path / dtype, "--dtype", dtype, "--base_model_name_or_path", str(tmp_path / "base"))
        found = merged.base_model.get_parameter("multi_modal_projector.linear_1.weight")
        assert found.dtype == expected.dtype and torch.equal(found, expected)


def copied(folder, to, **changes):
    """A copy of the adapter in `to`, with changes in its configuration."""
    (to / "adapter").mkdir()
    for file in (folder / "adapter").glob("*.*"):
        (to / "adapter" / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "adapter" / "adapter_config.json").read_text())
    (to / "adapter" / "adapter_config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("base", [None, ""])
def test_an_adapter_that_names_no_base_is_refused(folder, tmp_path, base):
    copied(folder, tmp_path, base_model_name_or_path=base)
    with pytest.raises(ValueError, match="does not name its base. .*`--base_model_name_or_path`"):
        merge(tmp_path, tmp_path / "merged")


def test_the_revision_in_an_adapter_is_that_of_the_base_it_names(folder, tmp_path, monkeypatch):
    copied(folder, tmp_path, revision="v2")
    seen, load = [], AutoModelForImageTextToText.from_pretrained

    def from_pretrained(name, revision=None, **settings):
        seen.append(revision)
        return load(name, **settings)

    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", from_pretrained)
    merge(tmp_path, tmp_path / "merged")
    (tmp_path / "moved").symlink_to(folder / "base")
    merge(tmp_path, tmp_path / "other", "--base_model_name_or_path", str(tmp_path / "moved"))
    assert seen[::2] == ["v2", None]  # the others load what was merged


def test_a_base_that_has_moved_is_named(folder, tmp_path):
    copied(folder, tmp_path, base_model_name_or_path="/gone/base")
    with pytest.raises(FileNotFoundError, match="/gone/base.*`--base_model_name_or_path`"):
        merge(tmp_path, tmp_path / "merged")
    assert merge(tmp_path, tmp_path / "merged", "--base_model_name_or_path", str(folder / "base")) is not None


def test_an_output_that_exists_is_kept(folder, tmp_path):
    with pytest.raises(ValueError, match="`output_dir` .* exists. Use another folder"):
        merge(folder, tmp_path)


def test_what_is_no_adapter_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"`model_name_or_path` \(.*base\) is no adapter"):
        main(["--model_name_or_path", str(folder / "base"), "--output_dir", str(tmp_path / "merged")])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        main(["--model_name_or_path", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "merged")])
    assert not (tmp_path / "merged").exists()
