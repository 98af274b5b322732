"""Tokens that were added to a processor after its model was made."""

from typing import Any

from transformers import PreTrainedConfig


PLACEHOLDERS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")  # in a configuration


def tokens_without_embeddings(processor: Any, config: PreTrainedConfig, rows: int) -> list[str]:
    """
    Find the tokens of a processor that its model could not read.

    Args:
        processor ([`~transformers.ProcessorMixin`]): the processor.
        config ([`~transformers.PreTrainedConfig`]): configuration of the model.
        rows (`int`): embeddings that it has.

    Returns:
        `list[str]`: the tokens, lowest id first.
    """
    vocabulary = getattr(processor, "tokenizer", processor).get_vocab()
    # Features take the place of these, so some models have no embedding of them
    images = [getattr(config, name, None) for name in PLACEHOLDERS]
    missing = {token: number for token, number in vocabulary.items() if number >= rows and number not in images}
    return sorted(missing, key=missing.__getitem__)
