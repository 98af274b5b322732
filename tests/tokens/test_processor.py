from copy import copy

import pytest
from support.tiny import tiny_model, tiny_processor
from transformers import LlamaConfig

from trl_mm.tokens.processor import processor_of, vision_processor_of


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (
            "Qwen2VLVideoProcessor requires the Torchvision library",
            r"me/model needs torchvision.*trl-mm\[torchvision\]",
        ),
        ("needs something else", "^needs something else$"),
    ],
)
def test_torchvision_is_named_where_it_is_missing(raised, message, monkeypatch):
    def fail(model, **options):
        raise ImportError(raised)

    monkeypatch.setattr("trl_mm.tokens.processor.AutoProcessor.from_pretrained", fail)
    with pytest.raises(ImportError, match=message):
        processor_of("me/model")


def test_the_processor_that_is_given_is_taken_and_another_is_loaded(tmp_path):
    processor = tiny_processor()
    assert vision_processor_of("me/model", "`model`", processor, tiny_model().config) is processor
    processor.save_pretrained(tmp_path)
    assert type(vision_processor_of(str(tmp_path), "`model`")) is type(processor)


def test_text_only_models_are_refused_in_the_name_of_who_asks(tmp_path):
    LlamaConfig().save_pretrained(tmp_path)
    tiny_processor.__wrapped__().tokenizer.save_pretrained(tmp_path)  # a new one, of no processor
    message = rf"The judge \({tmp_path}\) has no image processor, so it is no vision-language model. Pass one such as"
    with pytest.raises(ValueError, match=message):
        vision_processor_of(str(tmp_path), "The judge")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("chat_template", None, "`me/model` has no chat template"),
        ("patch_size", None, "has no `patch_size`"),
        ("patch_size", 7, "`patch_size` of the processor is 7, but the model"),
    ],
)
def test_a_processor_that_cannot_serve_is_refused(name, value, message):
    processor = copy(tiny_processor())
    setattr(processor, name, value)
    with pytest.raises(ValueError, match=message):
        vision_processor_of("me/model", "`model`", processor, tiny_model().config)
