import json
import subprocess
import sys

import pytest
from peft import PeftModel
from support.files import save_rows
from support.hub_server import running_hub
from support.rows import tiny_pairs
from support.tiny import tiny_processor, tiny_row
from transformers import AutoProcessor, LlamaConfig, LlamaForCausalLM, LlavaNextForConditionalGeneration

from trl_mm import BDHSConfig, MMDPOTrainer
from trl_mm.data.images import open_image
from trl_mm.data.loading import load_preferences
from trl_mm.data.subset import subset_positions
from trl_mm.scripts.bdhs import main as bdhs
from trl_mm.scripts.dpo import bdhs_config, main, push_arguments
from trl_mm.scripts.models import ModelArguments, load_model


BDHS = {"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 4}
FLAGS = (
    "--max_steps 2 --per_device_train_batch_size 2 --learning_rate 1e-2 --logging_steps 1 --use_cpu --bf16 false "
    "--report_to none --save_strategy no --dtype float32 --gradient_checkpointing false"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`sft.jsonl` and, with `rejected`, `pairs.jsonl`, beside the PNG files that they name."""
    folder = tmp_path_factory.mktemp("data")
    save_rows(folder / "sft.jsonl", [tiny_row(seed) for seed in range(4)])
    save_rows(folder / "pairs.jsonl", tiny_pairs(4))
    return folder


def run(model, rows, output, *flags):
    main(["--model_name_or_path", model, "--dataset_name", str(rows), "--output_dir", str(output), *FLAGS, *flags])
    return json.loads((output / "trainer_state.json").read_text())["log_history"]


def change(checkpoint, output):
    """Largest change of a weight, of the saved model as plain transformers loads it."""
    before = LlavaNextForConditionalGeneration.from_pretrained(checkpoint)
    after, info = LlavaNextForConditionalGeneration.from_pretrained(output, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    AutoProcessor.from_pretrained(output)
    return max(
        (parameter - after.get_parameter(name)).abs().max().item() for name, parameter in before.named_parameters()
    )


def test_the_aligned_model_is_a_plain_checkpoint(checkpoint, data, tmp_path, capsys):
    log = run(checkpoint, data / "pairs.jsonl", tmp_path)
    assert [entry["loss"] for entry in log if "loss" in entry][0] == pytest.approx(0.6931, abs=1e-3)
    assert change(checkpoint, tmp_path) > 1e-3
    printed = capsys.readouterr().out
    assert "Tokens of the 4 rows of the train dataset" in printed and "All fit `max_length` (4096)." in printed
    assert f"Model in {tmp_path}" in printed


@pytest.mark.parametrize("images", ["embed", "path"])
def test_pairs_of_the_bdhs_command_are_trained_on(checkpoint, data, tmp_path, images):
    pairs = tmp_path / "pairs"
    settings = [word for key, value in {**BDHS, "images": images}.items() for word in (f"--{key}", str(value))]
    bdhs(
        ["--model_name_or_path", checkpoint, "--dataset_name", str(data / "sft.jsonl"), "--output_dir", str(pairs)]
        + settings
    )
    folder = ["--image_folder", str(data)] if images == "path" else []
    assert len(run(checkpoint, pairs, tmp_path / "aligned", *folder)) == 3  # two steps and the summary
    assert change(checkpoint, tmp_path / "aligned") > 1e-3


@pytest.mark.parametrize("online", ["true", "false"])
def test_pairs_are_made_on_the_way(checkpoint, data, tmp_path, online):
    flags = ["--bdhs", json.dumps(BDHS), "--bdhs_online", online, "--bdhs_save_to", str(tmp_path / "kept")]
    log = run(checkpoint, data / "sft.jsonl", tmp_path, *flags)
    assert "bdhs/attempts" in log[0]
    assert ("step" in load_preferences(tmp_path / "kept").column_names) == (online == "true")
    assert not (tmp_path / "pairs").exists()
    assert change(checkpoint, tmp_path) > 1e-3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], r"Stopped after step 1 of 2\. No checkpoint is complete: the same command starts from the beginning\.$"),
        (
            ["--save_strategy", "steps", "--save_steps", "1"],
            r"Stopped after step 1 of 2\. checkpoint-1 is complete: `--resume_from_checkpoint true` resumes",
        ),
    ],
)
def test_a_stopped_training_says_what_it_has_reached(checkpoint, data, tmp_path, monkeypatch, flags, message):
    step = MMDPOTrainer.training_step

    def stopped(self, *args, **options):
        if self.state.global_step == 1:
            raise KeyboardInterrupt
        return step(self, *args, **options)

    monkeypatch.setattr(MMDPOTrainer, "training_step", stopped)
    with pytest.raises(KeyboardInterrupt, match=message):
        run(checkpoint, data / "pairs.jsonl", tmp_path, *flags)


def test_a_push_is_named_by_a_mapping_that_is_checked():
    pushed = push_arguments('{"repo_id": "me/pairs", "private": true}', ["--bdhs", "{}"])
    assert pushed == {"repo_id": "me/pairs", "private": True, "command": "trl-mm dpo --bdhs '{}'"}
    with pytest.raises(ValueError, match="`bdhs_push_to_hub` has no setting 'repo'. Did you mean `repo_id`"):
        push_arguments({"repo": "me/pairs"}, [])


@pytest.mark.parametrize("online", ["true", "false"])
def test_a_push_of_pairs_that_cannot_be_is_said_before_the_model_is_loaded(
    checkpoint, data, tmp_path, monkeypatch, online
):
    def refused(**options):
        raise ValueError(f"{options} exists already")

    def loaded(*args, **options):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("trl_mm.bdhs.callback.check_repo", refused)
    monkeypatch.setattr(MMDPOTrainer, "__init__", loaded)
    push = '{"repo_id": "me/pairs", "license": "mit"}'
    flags = ["--bdhs", json.dumps(BDHS), "--bdhs_online", online, "--bdhs_push_to_hub", push]
    with pytest.raises(ValueError, match="{'repo_id': 'me/pairs'} exists already"):
        run(checkpoint, data / "sft.jsonl", tmp_path, *flags)
    with pytest.raises(ValueError, match="exists already"):
        run(checkpoint, data / "sft.jsonl", tmp_path, *flags, "--resume_from_checkpoint", "true")
    with pytest.raises(AssertionError, match="loaded"):  # it may have pushed them already
        run(checkpoint, data / "sft.jsonl", tmp_path, *flags, "--resume_from_checkpoint", str(tmp_path))


def test_a_recipe_gives_the_settings_of_bdhs_as_a_mapping(checkpoint, data, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(MMDPOTrainer, "train", lambda self, **options: trained.append(self))
    recipe = tmp_path / "dpo.yaml"
    recipe.write_text(json.dumps({"bdhs": BDHS, "beta": 0.3}))
    run(checkpoint, data / "sft.jsonl", tmp_path / "aligned", "--config", str(recipe))
    (trainer,) = trained
    assert trainer.args.beta == 0.3 and trainer.pair_generator.config == BDHSConfig(**BDHS)


def test_lora_leaves_an_adapter(checkpoint, data, tmp_path):
    lora = "--use_peft --lora_r 2 --lora_target_modules q_proj v_proj --model_revision v2".split()
    run(checkpoint, data / "sft.jsonl", tmp_path, "--bdhs", json.dumps(BDHS), *lora)
    # What `trl-mm merge` loads the base by; a folder has no revisions
    assert json.loads((tmp_path / "adapter_config.json").read_text())["revision"] == "v2"
    assert not (tmp_path / "model.safetensors").exists()
    adapter = PeftModel.from_pretrained(LlavaNextForConditionalGeneration.from_pretrained(checkpoint), tmp_path)
    trained = {name: value for name, value in adapter.named_parameters() if "lora_B" in name}
    assert trained and all(value.abs().max() > 0 for value in trained.values())  # zero at the start


def test_lora_is_for_the_language_model_unless_told_otherwise(checkpoint, data, tmp_path, capsys):
    lora = "--use_peft --lora_r 2 --projector_learning_rate 1e-3".split()
    run(checkpoint, data / "pairs.jsonl", tmp_path, *lora)
    language, projector, tower = capsys.readouterr().out.partition("layers with LoRA\n")[2].splitlines()[:3]
    assert language.split()[-2:] == ["0.01", "14"] and projector.split()[-2:] == ["0.001", "–"] and "frozen" in tower
    model = load_model(ModelArguments(model_name_or_path=str(tmp_path), dtype="float32"), "cpu")
    projector = model.base_model.multi_modal_projector.modules_to_save.default.linear_1.weight
    before = LlavaNextForConditionalGeneration.from_pretrained(checkpoint)
    assert (projector - before.base_model.multi_modal_projector.linear_1.weight).abs().max() > 1e-4


def test_a_split_is_evaluated_on(checkpoint, data, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text((data / "pairs.jsonl").read_text())
    flags = ["--image_folder", str(data), "--dataset_test_split", "test", "--eval_strategy", "steps"]
    log = run(checkpoint, folder, tmp_path / "aligned", *flags, "--eval_steps", "1")
    assert len([entry for entry in log if "eval_loss" in entry]) == 2


def test_training_on_a_random_subset_evaluates_on_all(checkpoint, data, tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(MMDPOTrainer, "train", lambda self, **options: trained.append(self))
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text((data / "pairs.jsonl").read_text())
    flags = ["--image_folder", str(data), "--dataset_test_split", "test", "--max_rows", "2", "--shuffle_seed", "5"]
    run(checkpoint, folder, tmp_path / "aligned", *flags)
    (trainer,) = trained
    assert trainer.train_dataset["row_id"][:] == [str(position) for position in subset_positions(4, 2, 5)]
    assert trainer.train_dataset["row_id"][:] != ["0", "1"] and len(trainer.eval_dataset) == 4
    assert "Tokens of the 2 rows of the train dataset" in capsys.readouterr().out
    card = (tmp_path / "aligned" / "README.md").read_text()
    assert "\nmax_rows: 2\nshuffle_seed: 5\n" in card


def test_images_are_decoded_once_and_the_list_of_bad_ones_is_kept(checkpoint, data, tmp_path, monkeypatch):
    monkeypatch.setattr(MMDPOTrainer, "train", lambda self, **options: None)
    rows = [json.loads(line) for line in (data / "pairs.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        content = (data / f"{index}.png").read_bytes()
        (tmp_path / f"{index}.png").write_bytes(content[:50] if index == 1 else content)
        row["id"] = index
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    opened = []

    def count(image):
        opened.append(image["path"])
        return open_image(image)

    monkeypatch.setattr("trl_mm.data.reader.open_image", count)
    flags = ["--on_bad_image", "skip", "--bdhs", json.dumps(BDHS)]  # `rejected` of the rows is then left out
    run(checkpoint, tmp_path / "pairs.jsonl", tmp_path / "out", *flags)
    assert sorted(opened) == [str(tmp_path / f"{index}.png") for index in range(4)]
    (bad,) = map(json.loads, (tmp_path / "out" / "bad_rows.jsonl").read_text().splitlines())
    assert bad["row"] == 1 and bad["file"] == str(tmp_path / "pairs.jsonl")


def test_a_missing_dataset_is_named(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.jsonl"):
        run(checkpoint, tmp_path / "gone.jsonl", tmp_path / "out")


def test_rows_without_rejected_need_bdhs(checkpoint, data, tmp_path):
    with pytest.raises(ValueError, match=r"sft.jsonl.*row 0.*`rejected` is missing"):
        run(checkpoint, data / "sft.jsonl", tmp_path / "out")


def test_a_text_only_model_is_refused_and_another_named(data, tmp_path):
    config = LlamaConfig(
        vocab_size=360, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "text")
    tiny_processor.__wrapped__().tokenizer.save_pretrained(tmp_path / "text")  # a new one, of no processor
    with pytest.raises(ValueError, match="no vision-language model. Pass one such as llava-hf/"):
        run(str(tmp_path / "text"), data / "pairs.jsonl", tmp_path / "out")


def test_an_unknown_setting_of_bdhs_names_the_nearest(checkpoint, data, tmp_path):
    with pytest.raises(ValueError, match="no setting 'mask_treshold'. Did you mean `mask_threshold`. Known: .*seed"):
        run(checkpoint, data / "sft.jsonl", tmp_path / "out", "--bdhs", '{"mask_treshold": 0.5}')
    assert not (tmp_path / "out" / "config.json").exists()


def test_settings_of_bdhs_come_as_mapping_or_json():
    assert bdhs_config({"seed": 3}) == bdhs_config('{"seed": 3}')
    assert bdhs_config({}).mask_threshold == 0.99
    with pytest.raises(ValueError, match=r"no setting 'colour'\. Known"):
        bdhs_config({"colour": 1})
    with pytest.raises(ValueError, match="`bdhs` .seed=3. is no JSON.*Write"):
        bdhs_config("seed=3")
    with pytest.raises(ValueError, match="must be a mapping"):
        bdhs_config("[1]")


def test_an_unknown_flag_is_refused(checkpoint, data, tmp_path):
    with pytest.raises(ValueError, match="--betta"):
        run(checkpoint, data / "pairs.jsonl", tmp_path / "out", "--betta", "0.1")


def test_an_adapter_is_not_put_beside_a_full_model(checkpoint, tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="holds model.safetensors, a full model of another run"):
        main(
            ["--model_name_or_path", checkpoint, "--dataset_name", "unread", "--output_dir", str(tmp_path)]
            + ["--use_peft", "--bf16", "False"]
        )


def test_rows_without_any_image_are_refused(checkpoint, data, tmp_path):
    content = [{**json.loads(line), "images": []} for line in (data / "pairs.jsonl").read_text().splitlines()]
    (data / "text_only.jsonl").write_text("\n".join(map(json.dumps, content)))
    with pytest.raises(ValueError, match=r"None of the 4 rows of .*text_only.jsonl has an image"):
        run(checkpoint, data / "text_only.jsonl", tmp_path / "out")


def test_a_missing_model_folder_is_named_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="`model_name_or_path`.*nowhere.* is no folder here"):
        main(
            ["--model_name_or_path", str(tmp_path / "nowhere"), "--dataset_name", "unread"]
            + ["--output_dir", str(tmp_path / "out"), "--bf16", "False"]
        )


def test_a_folder_without_a_model_is_named_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="`model_name_or_path` .* holds neither config.json nor"):
        main(
            ["--model_name_or_path", str(tmp_path), "--dataset_name", "unread", "--output_dir", str(tmp_path / "out")]
            + ["--bf16", "False"]
        )


PUSH = """
import sys
from pathlib import Path
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl_mm.scripts.dpo import main

main(sys.argv[1:])
model = AutoModelForImageTextToText.from_pretrained("me/aligned")
AutoProcessor.from_pretrained("me/aligned")
print("RESULT", float(model.lm_head.weight.detach().sum()))
"""


@pytest.mark.slow
def test_a_pushed_model_comes_back_with_its_card(checkpoint, data, tmp_path):
    output = tmp_path / "out"
    source = ["--model_name_or_path", checkpoint, "--dataset_name", str(data / "pairs.jsonl")]
    push = ["--push_to_hub", "--hub_model_id", "me/aligned", "--output_dir", str(output)]
    with running_hub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", PUSH, *source, *push, *FLAGS],
            env=hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        files = hub.repos["me/aligned"]
    weights = float(LlavaNextForConditionalGeneration.from_pretrained(output).lm_head.weight.detach().sum())
    assert float(done.stdout.rpartition("RESULT ")[2]) == weights
    card = files["README.md"].decode()
    assert 'from_pretrained("me/aligned"' in card and str(tmp_path) not in card and "![loss by step](loss.svg)" in card
    assert {"config.json", "generation_config.json", "processor_config.json", "loss.svg"} <= set(files)
