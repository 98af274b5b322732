import json

import pytest
import torch
from support.files import save_rows
from support.rows import tiny_pairs
from support.tiny import save_tiny, tiny_model, tiny_processor
from transformers import PreTrainedModel

from trl_mm import MMDPOTrainer, MMOnlineDPOTrainer
from trl_mm.cli.main import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Configuration and processor, and no weights."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().config.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    save_rows(folder / "pairs.jsonl", tiny_pairs(5))
    return folder


@pytest.fixture
def dry_run(checkpoint, data, tmp_path, monkeypatch, capsys):
    """Runs a command and returns its status and what it has printed; `output_dir` has to stay as it was."""

    def loads_weights(*args, **kwargs):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(PreTrainedModel, "from_pretrained", loads_weights)
    output = tmp_path / "out"

    def run(command, *flags, model=checkpoint):
        words = f"{command} --dry_run --model_name_or_path {model} --dataset_name {data}/pairs.jsonl".split()
        status = main([*words, "--output_dir", str(output), "--report_to", "none", *flags])
        assert not output.exists()
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_it_says_what_a_run_would_do_and_take(dry_run):
    status, said = dry_run(
        "dpo", *"--per_device_train_batch_size 2 --num_train_epochs 3 --freeze_vision_tower --dtype bfloat16".split()
    )
    assert status == 0
    assert "Tokens of the 5 rows of the train dataset" in said and "All fit `max_length` (4096)." in said
    assert "vision tower              frozen" in said
    assert "Steps: 3 in an epoch, 9 together; 2 rows in a step (2 in a batch × 1 batches × 1 processes)." in said
    assert "Expected memory of each GPU, one process, mixed precision bf16" in said and "Assumed: " in said


def test_the_launch_is_read_and_not_made(dry_run, monkeypatch):
    monkeypatch.setattr("trl_mm.cli.launch.launch", lambda *args: pytest.fail("processes are started"))
    flags = "--per_device_train_batch_size 1 --gradient_accumulation_steps 2 --max_steps 7 --num_processes 2"
    status, said = dry_run("dpo", *flags.split(), "--accelerate_config", "zero3")
    assert status == 0
    # 5 rows are 3 batches for each of 2 processes
    assert "Steps: 2 in an epoch, 7 together; 4 rows in a step" in said
    assert "ZeRO-3 on 2 processes, mixed precision bf16" in said


def test_adapters_are_in_the_table_and_no_reference_in_the_memory(dry_run):
    status, said = dry_run("dpo", "--use_peft", "--lora_r", "2", "--accelerate_config", "zero2")
    assert status == 0 and "reference             0.00 GiB" in said
    language = said.partition("layers with LoRA\n")[2].splitlines()[0]
    assert language.split()[-1] == "14"


def size_of(said, name):
    return float(next(line for line in said.splitlines() if line.startswith(f"{name} ")).split()[-2])


def test_weights_that_train_count_in_float32(dry_run, monkeypatch):
    monkeypatch.setattr("trl_mm.trainer.estimate.memory.GIB", 1)
    flags = ["--dtype", "bfloat16", "--freeze_vision_tower"]
    model = tiny_model()
    frozen = sum(p.numel() for name, p in model.named_parameters() if "vision_tower" in name)
    trained = sum(p.numel() for p in model.parameters()) - frozen
    matrices = sum(p.numel() for name, p in model.named_parameters() if "vision_tower" not in name and p.ndim > 1)
    _, said = dry_run("dpo", *flags, "--accelerate_config", "single_gpu")
    # Beside float32 a copy in bfloat16 of what is multiplied
    assert size_of(said, "weights") == 4 * trained + 2 * frozen + 2 * matrices
    assert size_of(said, "reference") == 4 * trained + 2 * frozen
    assert (size_of(said, "gradients"), size_of(said, "optimizer")) == (4 * trained, 8 * trained)


def test_bad_rows_leave_nothing_in_the_output_either(dry_run, data, tmp_path):
    (tmp_path / "pairs.jsonl").write_text((data / "pairs.jsonl").read_text())
    for index in range(5):
        content = (data / f"{index}.png").read_bytes()
        (tmp_path / f"{index}.png").write_bytes(content if index else content[:50])
    flags = ["--dataset_name", str(tmp_path / "pairs.jsonl"), "--on_bad_image", "skip"]
    status, said = dry_run("dpo", *flags)
    assert status == 0 and "Tokens of the 4 rows of the train dataset" in said


def test_online_dpo_counts_the_answers_that_it_will_sample(dry_run):
    flags = "--max_new_tokens 9 --per_device_train_batch_size 2 --reward_funcs unread/unread"
    status, said = dry_run("online-dpo", *flags.split())
    assert status == 0 and "36 of them of answers" in said and "Not counted: judge" in said


def test_a_missing_configuration_is_named_with_its_cure(dry_run, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    status, said = dry_run("dpo", model=tmp_path / "broken")
    assert status == 2 and "`--dry_run` needs config.json" in said and "Name a folder that holds it" in said
    assert torch.get_default_device().type == "cpu"


def test_settings_that_training_refuses_are_refused(dry_run):
    bdhs = ["--bdhs", '{"similarity": "lexical"}', "--precompute_ref_log_probs"]
    status, said = dry_run("dpo", *bdhs)
    assert status == 2 and "Pairs that change with the policy have no reference log-probabilities" in said


SAME = {
    "full": "dpo --freeze_vision_tower --projector_learning_rate 1e-3",
    "adapters": "dpo --use_peft --lora_r 2 --projector_learning_rate 1e-3 --dtype bfloat16",
    "cut": "dpo --max_length 60",
    # `rejected` of the rows is not looked at
    "pairs during training": 'dpo --max_length 60 --bdhs {"similarity":"lexical"}',
    "online": "online-dpo --offline_probability 1 --use_peft --lora_r 2",
}


@pytest.mark.parametrize("words", SAME.values(), ids=SAME)
def test_it_says_of_rows_and_parts_what_training_says(words, data, tmp_path, capsys, monkeypatch):
    save_tiny(tmp_path / "model")
    rows = [json.loads(line) for line in (data / "pairs.jsonl").read_text().splitlines()]
    rows[1]["rejected"][0]["content"] *= 20
    rows[2]["prompt"][0]["content"] *= 20
    (data / "uneven.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = (
        f"{words} --model_name_or_path {tmp_path / 'model'} --dataset_name {data / 'uneven.jsonl'} --report_to none"
    )
    flags += f" --report_to none --bf16 false --use_cpu --output_dir {tmp_path / 'out'}"

    def said(*more):
        assert main([*flags.split(), *more]) == 0
        printed = capsys.readouterr().out
        report = printed[printed.index("Tokens of the ") :].partition("\n\n")[0].partition("\npart  ")[0].strip()
        parts = [line for line in printed.splitlines() if line.startswith(("language model", "projector", "vision"))]
        return report, parts

    planned = said("--dry_run")
    for trainer in (MMDPOTrainer, MMOnlineDPOTrainer):
        monkeypatch.setattr(trainer, "train", lambda self, **options: None)
    assert said() == planned
    assert len(planned[1]) == 3


@pytest.mark.parametrize("command", ["dpo", "reward"])
def test_the_time_on_a_gpu_is_said(dry_run, command):
    status, said = dry_run(command, *"--gpu a100 --max_steps 720 --per_device_train_batch_size 2".split())
    assert status == 0 and "Expected time on 1 x A100: 0.00 s per step, 0.0 hours together. An estimate" in said


def test_the_time_is_not_estimated_where_answers_are_sampled_or_numbers_are_whole(dry_run):
    _, said = dry_run("online-dpo", "--gpu", "H200", "--reward_funcs", "unread/unread")
    assert "not estimated where answers are sampled" in said
    # Stored rejected answers are there, and sampled ones beside them
    _, said = dry_run("dpo", *"--gpu H200 --bdhs_rejected_weight 0.5 --bdhs".split(), '{"similarity": "lexical"}')
    assert "not estimated where answers are sampled" in said and "Expected time" not in said
    _, said = dry_run("dpo", "--gpu", "H200", "--bf16", "false")
    assert "in bfloat16 (`--bf16`) only" in said


def test_a_gpu_without_a_rate_or_a_dry_run_is_refused(dry_run):
    status, said = dry_run("dpo", "--gpu", "H201")
    assert status == 2 and "`gpu` must be one of H200, H100" in said
    status, said = dry_run("dpo", "--gpu", "H200", "--dry_run", "false")
    assert status == 2 and "`gpu` (H200) is for `--dry_run`" in said
