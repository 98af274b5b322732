"""Tiny random models of several families with their real processors, built in memory like those of `tiny`.

What is unusual in it: torchvision is not needed. Image processors are the PIL ones. Some processors insist on a video
processor, which exists with torchvision only; here they do without, and are given no video.
"""

import json
from functools import cache

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from support.tiny import TEMPLATE, TEXTS, tiny_model, tiny_processor


VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}


def tokenizer(*others, **named):
    """Byte-level tokenizer with special tokens; processors look for the `named` ones by these names."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        TEXTS * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<pad>", "</s>", *named.values(), *others],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", extra_special_tokens=named
    )


def byte_fallback_tokenizer():
    """Tokenizer like that of Llama 2: a space in front, and characters it does not know as one token for each byte."""
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "</s>", "<image>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[*special, *octets], show_progress=False)
    made.train_from_iterator(TEXTS * 3, trainer)
    state = json.loads(made.to_str())  # the trainer takes only special tokens, but bytes are text
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in special]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        unk_token="<unk>",
        pad_token="<unk>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
    )


def template(image="<image>\n"):
    return TEMPLATE.replace("<image>\n", image)


def without_videos(processor_class, *parts, **settings):
    class WithoutVideos(processor_class):
        def check_argument_for_proper_class(self, name, argument):
            if name != "video_processor":
                super().check_argument_for_proper_class(name, argument)

    return WithoutVideos(*parts, video_processor=None, **settings)


def model(name, processor, vision=None, text=None, **settings):
    """Random weights large enough for the answers to depend on all that is read."""
    config_class = getattr(transformers, f"{name}Config")
    config = config_class(
        vision_config={**VISION, **(vision or {})},
        text_config={
            **TEXT,
            "vocab_size": len(processor.tokenizer),
            "pad_token_id": processor.tokenizer.pad_token_id,
            "eos_token_id": processor.tokenizer.eos_token_id,
            "bos_token_id": processor.tokenizer.eos_token_id,
            **(text or {}),
        },
        **settings,
    )
    torch.manual_seed(0)
    made = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
        else:  # biases, norms and newline vectors that start as zero or one would not show in a comparison
            with torch.no_grad():
                parameter += 0.1 * torch.randn(parameter.shape)
    return made.eval()


def llava(name="Llava", tokens=None):
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokens or tokenizer(image_token="<image>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template(),
    )
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14}
    text = {"model_type": "llama"}
    layers = {"vision_feature_layers": [-1, -2]} if name == "VipLlava" else {}
    return model(name, processor, vision, text, **layers, image_token_index=processor.image_token_id), processor


def llava_next():
    return tiny_model(scale=6), tiny_processor()


def llava_onevision():
    processor = without_videos(
        transformers.LlavaOnevisionProcessor,
        transformers.LlavaOnevisionImageProcessorPil(
            size={"height": 28, "width": 28}, image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]]
        ),
        tokenizer(image_token="<image>", video_token="<video>"),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template(),
    )
    made = model(
        "LlavaOnevision",
        processor,
        {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, "vision_use_head": False},
        {"model_type": "qwen2"},
        image_token_index=processor.image_token_id,
        video_token_index=processor.video_token_id,
        image_grid_pinpoints=processor.image_processor.image_grid_pinpoints,
        vision_feature_layer=-1,
    )
    return made, processor


def internvl():
    processor = without_videos(
        transformers.InternVLProcessor,
        transformers.GotOcr2ImageProcessorPil(
            size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=3
        ),
        tokenizer(
            start_image_token="<img>",
            end_image_token="</img>",
            context_image_token="<IMG_CONTEXT>",
            video_token="<video>",
        ),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>\n"),
    )
    vision = {"model_type": "internvl_vision", "image_size": [28, 28], "patch_size": [7, 7]}
    text = {"model_type": "qwen2"}
    return model("InternVL", processor, vision, text, image_token_id=processor.image_token_id), processor


def idefics3(name="Idefics3"):
    grid = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
        tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *grid),
        image_seq_len=4,
        chat_template=template("<image>"),
    )
    made = model(
        name,
        processor,
        {"model_type": f"{name.lower()}_vision", "image_size": 28, "patch_size": 7},
        {"model_type": "llama"},
        scale_factor=2,
        image_token_id=processor.image_token_id,
    )
    return made, processor


def qwen(version):
    tokens = tokenizer("<|vision_start|>", "<|vision_end|>", image_token="<|image_pad|>", video_token="<|video_pad|>")
    pixels = {"patch_size": 14, "merge_size": 2, "min_pixels": 28 * 28, "max_pixels": 56 * 84}
    processor = without_videos(
        getattr(transformers, f"{version}Processor"),
        transformers.Qwen2VLImageProcessorPil(**pixels),
        tokens,
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    vision = {
        "Qwen2VL": {"embed_dim": 16, "hidden_size": 32, "depth": 2, "num_heads": 2},
        "Qwen2_5_VL": {
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 32,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        "Qwen3VL": {
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 14,
            "deepstack_visual_indexes": [0],
        },
    }[version]
    sections = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    made = model(
        version,
        processor,
        vision,
        {"rope_parameters": sections},
        image_token_id=processor.image_token_id,
        video_token_id=processor.video_token_id,
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokens.convert_tokens_to_ids("<|vision_end|>"),
    )
    return made, processor


def gemma3():
    tokens = tokenizer(boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>")
    processor = transformers.Gemma3Processor(
        transformers.Gemma3ImageProcessorPil(size={"height": 28, "width": 28}),
        tokens,
        image_seq_length=4,
        chat_template=template("<start_of_image>"),
    )
    made = model(
        "Gemma3",
        processor,
        {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 7, "vision_use_head": False},
        {
            "sliding_window": 12,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        mm_tokens_per_image=4,
        boi_token_index=tokens.boi_token_id,
        eoi_token_index=tokens.eoi_token_id,
        image_token_index=tokens.image_token_id,
    )
    return made, processor


@cache
def family(name):
    """Model and processor of a family."""
    return FAMILIES[name]()


FAMILIES = {
    "llava": llava,
    "vipllava": lambda: llava("VipLlava"),
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "idefics3": idefics3,
    "smolvlm": lambda: idefics3("SmolVLM"),  # its own processor needs num2words and differs in videos
    "qwen2_vl": lambda: qwen("Qwen2VL"),
    "qwen2_5_vl": lambda: qwen("Qwen2_5_VL"),
    "qwen3_vl": lambda: qwen("Qwen3VL"),
    "gemma3": gemma3,
}


def text_only_model():
    """A language model, which takes no images."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=400, **size))
