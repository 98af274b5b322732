import pytest

from trl_mm.tokens.processor import processor_of


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
