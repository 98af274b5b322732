import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from support.families import FAMILIES, family, text_only_model
from support.tiny import tiny_image, tiny_processor, tiny_row

from trl_mm.bdhs.config import BDHSConfig
from trl_mm.bdhs.sampler import BDHSSampler
from trl_mm.generation.sight import check_image_features, check_sees_images
from trl_mm.judges.pairwise import PairwiseVLMJudge
from trl_mm.tokens.families import FAMILIES as KNOWN


@pytest.mark.parametrize("name", FAMILIES)
def test_vision_language_models_see(name):
    check_sees_images(family(name)[0])


# How each of them may be wrong: a part of the processor, its setting, another value
WRONG = {
    "llava_onevision": ("", "num_image_tokens", 9),
    "internvl": ("", "image_seq_length", 3),
    "idefics3": ("", "image_seq_len", 5),
    "smolvlm": ("", "image_seq_len", 5),
    "qwen2_vl": ("image_processor", "merge_size", 1),
    "qwen2_5_vl": ("image_processor", "merge_size", 1),
    "qwen3_vl": ("image_processor", "merge_size", 1),
    "gemma3": ("", "full_image_sequence", "<start_of_image><image_soft_token><end_of_image>"),
}


def test_all_families_are_compared_in_one_way_or_the_other():
    assert {name for name in FAMILIES if not KNOWN[name].repeats_settings} == WRONG.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_processor_that_counts_as_the_model_does_is_taken(name):
    model, processor = family(name)
    before = torch.get_rng_state()
    check_image_features(model, processor)
    assert torch.equal(torch.get_rng_state(), before), "training draws the same numbers"


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_a_processor_that_counts_otherwise_is_refused(name, lora):
    model, processor = family(name)
    part, setting, value = WRONG[name]
    processor = copy.copy(processor)
    if part:
        setattr(processor, part, copy.copy(getattr(processor, part)))
    setattr(getattr(processor, part) if part else processor, setting, value)
    if lora:
        model = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="(?s)do not agree on an image of 320 x 240 pixels: .*Use the proc"):
        check_image_features(model, processor)


def test_a_model_without_weights_is_left_to_the_first_step():
    with torch.device("meta"):
        model = type(family("qwen2_vl")[0])(family("qwen2_vl")[0].config)
    check_image_features(model, None)


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
