"""What both trainers refuse, and when they stop."""

import pytest
from datasets import Dataset, Image, List
from tiny import TRAINING, save_tiny, tiny_model, tiny_processor, tiny_row
from transformers import LlamaConfig, LlamaForCausalLM

from trl_mm import MMDPOConfig, MMDPOTrainer, MMOnlineDPOConfig, MMOnlineDPOTrainer


DPO = (MMDPOTrainer, MMDPOConfig, {})
ONLINE = (MMOnlineDPOTrainer, MMOnlineDPOConfig, {"offline_probability": 1.0})
BOTH = pytest.mark.parametrize("kind", [DPO, ONLINE], ids=["dpo", "online-dpo"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, scale=4)
    return str(folder)


def pairs(count=4):
    rejected = [{"role": "assistant", "content": "There is a dog."}]
    rows = [{**tiny_row(seed), "rejected": rejected} for seed in range(count)]
    return Dataset.from_list(rows).cast_column("images", List(Image()))


def make(kind, model, folder, given=None, **settings):
    trainer, cls, own = kind
    arguments = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        **TRAINING,
        **own,
        **settings,
    }
    given = {"train_dataset": pairs(), "processing_class": tiny_processor(), **(given or {})}
    return trainer(model, args=cls(**arguments), **given)


def text_only_model():
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=400, **size))


@BOTH
def test_a_text_only_model_is_refused_beside_the_processor_of_another(kind, checkpoint, tmp_path):
    text_only_model().save_pretrained(tmp_path / "text")
    for model, given in (
        (text_only_model(), {}),
        (str(tmp_path / "text"), {}),
        (tiny_model(), {"ref_model": text_only_model()}),
    ):
        name = "ref_model" if given else "model"
        with pytest.raises(ValueError, match=rf"`{name}` \(LlamaForCausalLM\) takes no images, .*Pass one such as"):
            make(kind, model, tmp_path, given)
