"""Models with random weights and the shapes of published ones, with a processor that needs no download."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)

from ..tokens.processor import vision_processor_of


# Every word of a benchmark's rows is one token
WORDS = "the a red blue green circle square table dog cat sits stands on under near large small and with there".split()
QUESTION = "Describe the image ."

# `small` is wide rather than deep, so that attention, vision tower and LM head do not outweigh the rest of a step more
# than they must: in the 7B they are 6, 4 and 2 per cent of it
SIZES = {
    "tiny": {
        "text": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        "vision": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        "vocab_size": 256,
        "tile": 28,
    },
    "small": {
        "text": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 12},
        "vision": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4},
        "vocab_size": 512,
        "tile": 336,
    },
    "7b": {
        "text": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        "vocab_size": 32064,
        "tile": 336,
    },
}
PATCH = 14
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def llava_next(size):
    """Configuration and processor of LLaVA-NeXT in one of `SIZES`, with the grids of LLaVA-1.6."""
    shape = SIZES[size]
    tile = shape["tile"]
    words = ["<unk>", "<pad>", "</s>", "<image>", "USER", "ASSISTANT", ":", *QUESTION.split(), *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    grids = [[tile, 2 * tile], [2 * tile, tile], [2 * tile, 2 * tile], [3 * tile, tile], [tile, 3 * tile]]
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": tile}, crop_size={"height": tile, "width": tile}, image_grid_pinpoints=grids
        ),
        fast,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**shape["vision"], image_size=tile, patch_size=PATCH),
        text_config=LlamaConfig(
            **shape["text"],
            vocab_size=shape["vocab_size"],
            max_position_embeddings=8192,
            pad_token_id=fast.pad_token_id,
            eos_token_id=fast.eos_token_id,
            bos_token_id=fast.eos_token_id,
        ),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=grids,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return config, processor


def load(model, arch, size, dtype, attn_implementation, device):
    """
    A model to measure, the same at every call.

    Args:
        model (`str` or `None`): id or path; `None` for random weights.
        arch (`str`): key of `ARCHITECTURES`, for random weights.
        size (`str`): key of `SIZES`, for random weights.
        dtype (`torch.dtype`): type of the weights.
        attn_implementation (`str`): attention of the language model and the vision tower.
        device (`torch.device`): where random weights are drawn.

    Returns:
        `(PreTrainedModel, ProcessorMixin)`

    Raises:
        ValueError: there is no such architecture or size, or `model` is no vision-language model.
    """
    if model is not None:
        processor = vision_processor_of(model, "`model`")
        return AutoModelForImageTextToText.from_pretrained(
            model, dtype=dtype, attn_implementation=attn_implementation
        ), processor
    for name, value, known in (("arch", arch, ARCHITECTURES), ("size", size, SIZES)):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {value!r}.")
    config, processor = ARCHITECTURES[arch](size)
    torch.manual_seed(0)
    with torch.device(device):
        made = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation=attn_implementation)
    return made, processor


ARCHITECTURES = {"llava-next": llava_next}
