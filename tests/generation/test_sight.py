import pytest
from peft import LoraConfig, get_peft_model
from support.families import FAMILIES, family, text_only_model
from support.tiny import tiny_image, tiny_processor, tiny_row

from trl_mm.bdhs.config import BDHSConfig
from trl_mm.bdhs.sampler import BDHSSampler
from trl_mm.generation.sight import check_sees_images
from trl_mm.judges.pairwise import PairwiseVLMJudge


@pytest.mark.parametrize("name", FAMILIES)
def test_vision_language_models_see(name):
    check_sees_images(family(name)[0])


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("mode", ["attention", "noise", "povid"])
def test_the_sampler_and_the_judge_refuse_a_model_that_does_not(lora, mode):
    model = text_only_model()
    if lora:
        model = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    message = r"\(LlamaForCausalLM\) takes no images"
    sampler = BDHSSampler(BDHSConfig(similarity="lexical", mode=mode), tiny_processor())
    with pytest.raises(ValueError, match=message):
        sampler(model, [tiny_row(images=[tiny_image()])])
    with pytest.raises(ValueError, match="the judge.*" + message):
        PairwiseVLMJudge(model, tiny_processor())
