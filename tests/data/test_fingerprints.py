import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_model

from trl_mm.data.fingerprints import weights_digest


def test_a_lora_counts_once_it_changes_something():
    """Its random half differs from process to process."""

    def adapted(seed):
        model = tiny_model()
        torch.manual_seed(seed)
        return get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"]))

    first, second = adapted(1), adapted(2)
    assert weights_digest(first) == weights_digest(second)
    before = weights_digest(second)
    for name, parameter in second.named_parameters():
        if "v_proj.lora_B" in name:
            torch.nn.init.normal_(parameter)
    assert weights_digest(second) != before
