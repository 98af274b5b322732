"""A tiny LLaVA-NeXT with its real processor, anyres tiles included, built in memory, and rows for it."""

import contextlib
from copy import copy, deepcopy
from functools import cache
from unittest import mock

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    PreTrainedTokenizerFast,
)


TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# As LLaVA-1.6 on Vicuna has it: images first, a space after each turn, and no begin or EOS token
BARE_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
# What it should have written
WHOLE_TEMPLATE = "{{ bos_token }}" + BARE_TEMPLATE.replace(
    "{{ part['text'] + ' ' }}", "{{ part['text'] }}{{ '</s>' if message['role'] == 'assistant' else ' ' }}"
)
TEXTS = [
    "USER: ASSISTANT: Describe the image. There is a red circle. There is a green square. Yes. No. It is 3.5 cm wide.",
    "A dog and a cat sit on a sofa. The sky is blue! Is it late? Yes, it is. No, there is none.",
]


# Settings that most trainings in tests have in common
TRAINING = {"report_to": "none", "save_strategy": "no", "bf16": False, "use_cpu": True}


@cache
def tiny_processor(image_size=28, patch_size=14):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=360,
            special_tokens=["<pad>", "</s>", "<image>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    return LlavaNextProcessor(
        LlavaNextImageProcessor(
            size={"shortest_edge": image_size},
            crop_size={"height": image_size, "width": image_size},
            image_grid_pinpoints=[[image_size, 2 * image_size], [2 * image_size, image_size], [2 * image_size] * 2],
        ),
        fast,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=TEMPLATE,
    )


def bare_processor(template=BARE_TEMPLATE):
    """The same, with a tokenizer that begins texts with a token (here the EOS token) which the template leaves out."""
    processor = copy(tiny_processor())
    processor.tokenizer = deepcopy(processor.tokenizer)
    processor.tokenizer.bos_token = "</s>"
    processor.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", processor.tokenizer.eos_token_id)]
    )
    processor.chat_template = template
    return processor


def tiny_model(seed=0, layers=2, scale=1.0, image_size=28, patch_size=14, width=1):
    """
    LLaVA-NeXT of about 60k parameters. `scale` makes weights larger, so that answers depend on what is read. `width`
    makes layers wider: with 4, all have multiples of 64, which 4-bit weights need on CPUs with AVX-512.
    """
    processor = tiny_processor(image_size, patch_size)
    torch.manual_seed(seed)
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16 * width,
            intermediate_size=32 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=image_size,
            patch_size=patch_size,
        ),
        text_config=LlamaConfig(
            vocab_size=len(processor.tokenizer),
            hidden_size=32 * width,
            intermediate_size=64 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            pad_token_id=processor.tokenizer.pad_token_id,
            eos_token_id=processor.tokenizer.eos_token_id,
            bos_token_id=processor.tokenizer.eos_token_id,
        ),
        image_token_index=processor.image_token_id,
        image_grid_pinpoints=processor.image_processor.image_grid_pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        initializer_range=0.02 * scale,
    )
    return LlavaNextForConditionalGeneration(config).eval()


def save_tiny(folder, **settings):
    """Write a model, with the settings of [`tiny_model`], and its processor into a folder."""
    tiny_model(**settings).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)


def tiny_image(seed=0, size=(40, 30)):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


def tiny_row(seed=0, answer="There is a red circle. There is a green square.", size=(40, 30), **columns):
    return {
        "images": [tiny_image(seed, size)],
        "prompt": [{"role": "user", "content": "Describe the image."}],
        "chosen": [{"role": "assistant", "content": answer}],
        "row_id": str(seed),
        **columns,
    }


@contextlib.contextmanager
def counted_images(model):
    """A list that holds, afterwards, how many images each pass through the vision part had."""
    counts = []
    with mock.patch.object(model.model, "pack_image_features", wraps=model.model.pack_image_features) as pack:
        yield counts
    counts += [len(call.args[0]) for call in pack.call_args_list]
