import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from peft import LoraConfig
from support.tiny import tiny_image, tiny_processor, tiny_row
from transformers import LlavaNextProcessor
from trl import ModelConfig

from trl_mm import MMDPOConfig
from trl_mm.cli.main import main
from trl_mm.scripts import preflight
from trl_mm.scripts.models import check_model_path
from trl_mm.tokens.processor import processor_of


@pytest.fixture
def installed(monkeypatch):
    """Set of packages; none but these is found."""
    packages = set()
    monkeypatch.setattr(preflight, "find_spec", lambda name: name if name in packages else None)
    return packages


def settings(folder, **more):
    return MMDPOConfig(str(folder), **{"bf16": False, "report_to": "none", **more})


@pytest.mark.parametrize(
    ("training", "model", "message"),
    [
        ({}, {"load_in_4bit": True}, r"`load_in_4bit` needs bitsandbytes.*pip install trl-mm\[quantization\]"),
        ({}, {"load_in_8bit": True}, r"`load_in_8bit` needs bitsandbytes"),
        ({"optim": "paged_adamw_8bit"}, {}, r"`optim: paged_adamw_8bit` needs bitsandbytes"),
        ({"use_liger_kernel": True}, {}, r"`use_liger_kernel` needs liger_kernel.*pip install liger-kernel"),
        ({"report_to": ["wandb"]}, {}, r"`report_to: wandb` needs wandb.*pip install wandb"),
        (
            {},
            {"attn_implementation": "flash_attention_2"},
            r"`attn_implementation: flash_attention_2` needs flash_attn",
        ),
    ],
)
def test_a_missing_package_is_named_with_the_setting_and_the_cure(training, model, message, installed, tmp_path):
    with pytest.raises(ImportError, match=message):
        preflight.check_training(settings(tmp_path, **training), ModelConfig(**model))


def test_what_is_installed_is_taken(installed, tmp_path):
    installed |= {"bitsandbytes", "kernels", "liger_kernel"}
    model = ModelConfig(load_in_4bit=True, attn_implementation="flash_attention_2")
    preflight.check_training(settings(tmp_path, optim="adamw_bnb_8bit", use_liger_kernel=True), model)
    installed.clear()
    preflight.check_training(settings(tmp_path, optim="adamw_torch_fused"), ModelConfig(attn_implementation="sdpa"))


def test_an_unknown_tracker_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="unknown tracker `wandbb`, did you mean `wandb`"):
        preflight.check_trackers(["wandbb"])


class WandbError(Exception):
    pass


def fake_wandb(monkeypatch, login, mode="online"):
    """A wandb whose `login` is a function of `prompt`."""
    settings, module = SimpleNamespace(mode=mode), ModuleType("wandb")
    module.__spec__ = SimpleNamespace(name="wandb")
    module.setup, module.run = lambda: SimpleNamespace(settings=settings), None
    module.login, module.Error, module.api = login, WandbError, SimpleNamespace(api_key=None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def refused(prompt):
    raise WandbError("Failed to authenticate:\n invalid API key.")


def test_wandb_without_a_login_is_named_with_the_cure(monkeypatch, tmp_path):
    monkeypatch.delenv("RANK", raising=False)
    cure = r"Run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline"
    fake_wandb(monkeypatch, lambda prompt: False)
    with pytest.raises(PermissionError, match=f"`report_to: wandb` needs a login: there is none. {cure}"):
        preflight.check_training(settings(tmp_path, report_to=["wandb"]), ModelConfig())
    fake_wandb(monkeypatch, refused)
    with pytest.raises(PermissionError, match=f"Failed to authenticate: invalid API key. {cure}"):
        preflight.check_trackers(["wandb"])
    old = fake_wandb(monkeypatch, lambda: pytest.fail("it asks"))
    with pytest.raises(PermissionError, match="there is none"):
        preflight.check_trackers(["wandb"])
    old.api.api_key = "key"
    preflight.check_trackers(["wandb"])
    fake_wandb(monkeypatch, lambda prompt: True)
    preflight.check_trackers(["wandb"])


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_that_stays_on_the_disk_needs_no_login(monkeypatch, mode):
    fake_wandb(monkeypatch, refused, mode)
    preflight.check_trackers(["wandb"])


def test_only_the_process_that_reports_needs_a_login(monkeypatch):
    fake_wandb(monkeypatch, refused)
    monkeypatch.setenv("RANK", "8")  # the first of the second machine
    preflight.check_trackers(["wandb"])


def test_comet_without_a_key_is_named_with_the_cure(monkeypatch):
    module = ModuleType("comet_ml")
    module.__spec__ = SimpleNamespace(name="comet_ml")
    module.config = SimpleNamespace(get_config=lambda name: None)
    monkeypatch.setitem(sys.modules, "comet_ml", module)
    with pytest.raises(PermissionError, match="`report_to: comet_ml` needs an API key.*set COMET_API_KEY"):
        preflight.check_trackers(["comet_ml"])
    monkeypatch.setenv("COMET_START_ONLINE", "0")
    preflight.check_trackers(["comet_ml"])


def test_one_process_of_a_machine_looks(installed, monkeypatch, tmp_path):
    training = settings(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    preflight.check_training(training, ModelConfig(load_in_4bit=True))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deep" / "er"):
        with pytest.raises(OSError, match=rf"`output_dir` \({folder}\) cannot be written to: Not a directory"):
            preflight.check_writable("output_dir", folder)
    preflight.check_writable("output_dir", tmp_path / "new" / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_missing_model_is_named():
    with pytest.raises(ValueError, match="`model_name_or_path` is missing. Pass the id"):
        check_model_path(None)


def test_a_missing_login_is_named_with_the_cure(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)  # and the cache of the tests holds no login
    with pytest.raises(PermissionError, match="needs an access token of the Hub and there is none. Run `hf auth"):
        preflight.check_login(None)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE forbids it"):
        preflight.check_login("hf_token")


@pytest.mark.parametrize("role", ["read", "write"])
def test_a_token_that_may_only_read_is_refused(role, monkeypatch):
    user = {"name": "me", "auth": {"accessToken": {"role": role}}}
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda self: user)
    if role == "write":
        preflight.check_login(None)
    else:
        with pytest.raises(PermissionError, match="may only read. Run `hf auth login`"):
            preflight.check_login(None)


@pytest.fixture
def rows(tmp_path):
    tiny_image().save(tmp_path / "0.png")
    row = {**tiny_row(), "images": ["0.png"], "rejected": [{"role": "assistant", "content": "A dog."}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    return str(tmp_path / "rows.jsonl")


@pytest.fixture
def no_weights(monkeypatch):
    """Fails a test in which weights are loaded."""

    def load(*args, **kwargs):
        raise AssertionError("weights are loaded")

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", load)


def said(command, capsys, *flags):
    """The one line that a command ends with."""
    assert main([*command.split(), *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


TRAIN = ["--bf16", "false", "--use_cpu", "--report_to", "none"]


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("dpo", [*TRAIN, "--load_in_4bit"], "`load_in_4bit` needs bitsandbytes"),
        ("online-dpo", [*TRAIN, "--use_liger_kernel"], "`use_liger_kernel` needs liger_kernel"),
        ("judge", ["--load_in_4bit"], "`load_in_4bit` needs bitsandbytes"),
        ("bdhs", ["--attn_implementation", "flash_attention_2"], "needs flash_attn"),
    ],
)
def test_commands_look_before_they_load(
    command, flags, message, checkpoint, rows, installed, no_weights, capsys, tmp_path
):
    source = ["--model_name_or_path", checkpoint, "--dataset_name", rows, "--output_dir", str(tmp_path / "out")]
    assert message in said(command, capsys, *source, *flags)


def test_a_judge_in_4_bits_is_looked_at_before_the_policy(checkpoint, rows, installed, no_weights, capsys, tmp_path):
    source = ["--model_name_or_path", checkpoint, "--dataset_name", rows, "--output_dir", str(tmp_path / "out")]
    judge = ["--judge", json.dumps({"kind": "vlm", "model": checkpoint, "load_in_4bit": True})]
    assert "`load_in_4bit` of `judge` needs bitsandbytes" in said("online-dpo", capsys, *source, *TRAIN, *judge)


@pytest.mark.parametrize("command", ["dpo", "online-dpo", "bdhs", "judge", "merge", "eval"])
def test_commands_look_at_their_folder_first(command, checkpoint, rows, no_weights, capsys, tmp_path):
    (tmp_path / "file").touch()
    flags = ["--model_name_or_path", checkpoint, "--output_dir", str(tmp_path / "file" / "out")]
    if command == "eval":
        flags += ["--annotations", "unread", "--image_folder", "unread"]
    elif command != "merge":
        flags += ["--dataset_name", rows]
    flags += TRAIN if "dpo" in command else []
    assert "`output_dir` (" in said(command, capsys, *flags)


def test_pages_and_figures_name_their_file_first(rows, capsys, tmp_path):
    (tmp_path / "file").touch()
    assert "`html` (" in said("report", capsys, rows, "--html", str(tmp_path / "file" / "page.html"))
    assert "`json` (" in said("bench dpo", capsys, "--json", str(tmp_path / "file" / "figures.json"))


def test_an_embedding_model_is_had_before_the_policy(checkpoint, rows, no_weights, capsys, tmp_path, monkeypatch):
    def fail(name, device):
        raise OSError("no such model")

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=fail))
    source = ["--model_name_or_path", checkpoint, "--dataset_name", rows, "--output_dir", str(tmp_path / "out")]
    assert "The embedding model of `similarity='sentence-transformers/all-mpnet-base-v2'` cannot be loaded" in said(
        "dpo", capsys, *source, *TRAIN, "--bdhs", "{}"
    )


@pytest.mark.parametrize("command", ["dpo", "bdhs"])
def test_a_splitter_is_had_before_the_policy(command, checkpoint, rows, no_weights, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    source = ["--model_name_or_path", checkpoint, "--dataset_name", rows, "--output_dir", str(tmp_path / "out")]
    more = {"dpo": [*TRAIN, "--bdhs", '{"similarity": "lexical"}'], "bdhs": ["--similarity", "lexical"]}[command]
    assert "needs `sentencex`" in said(command, capsys, *source, *more)


def test_deepspeed_is_looked_for_before_the_launch(installed, capsys, tmp_path):
    flags = ["--model_name_or_path", "me/model", "--dataset_name", "x", "--output_dir", str(tmp_path)]
    message = said("dpo", capsys, *flags, "--accelerate_config", "zero2")
    assert message == (
        "error: `--accelerate_config zero2` needs deepspeed, which is not installed: `pip install trl-mm[deepspeed]`."
    )


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """Function that writes an adapter without weights of a base: its folder."""

    def write(base=checkpoint, processor=False):
        folder = tmp_path / "adapter"
        LoraConfig(base_model_name_or_path=base, target_modules=["q_proj"]).save_pretrained(folder)
        if processor:
            tiny_processor().save_pretrained(folder)
        return str(folder)

    return write


@pytest.mark.parametrize("command", ["dpo", "online-dpo"])
def test_an_adapter_is_not_trained_further(command, adapter, rows, no_weights, capsys, tmp_path):
    source = ["--model_name_or_path", adapter(), "--dataset_name", rows, "--output_dir", str(tmp_path / "out")]
    assert "is an adapter, and training begins from a whole model. Fold it" in said(command, capsys, *source, *TRAIN)


@pytest.mark.parametrize("command", ["bdhs", "judge"])
def test_an_adapter_whose_base_has_moved_is_named(command, adapter, rows, no_weights, capsys, tmp_path):
    folder = adapter(base=str(tmp_path / "gone"))
    source = ["--model_name_or_path", folder, "--dataset_name", rows, "--output_dir", str(tmp_path / "out")]
    assert f"its base ({tmp_path / 'gone'}) is not there. Write where it is" in said(command, capsys, *source)


def test_an_adapter_without_a_processor_takes_that_of_its_base(adapter, caplog):
    with caplog.at_level("INFO"):
        processor = processor_of(adapter())
    assert isinstance(processor, LlavaNextProcessor) and "that of its base" in caplog.text
    caplog.clear()
    assert isinstance(processor_of(adapter(processor=True)), LlavaNextProcessor) and not caplog.text
    with pytest.raises(ValueError, match="Unrecognized"):
        processor_of(str(Path(adapter()).parent))
