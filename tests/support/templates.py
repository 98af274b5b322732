"""Processors of the three LLaVA-1.6: chat templates as on the Hub, tiny tokenizers that behave like Llama's."""

from copy import copy

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from support.tiny import tiny_processor


IMAGES = "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
TEXTS = "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}"
TEMPLATES = {
    "vicuna": (
        "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}"
        "{% endif %}" + IMAGES + TEXTS.replace("part['text'] }}", "part['text'] + ' ' }}") + "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    "mistral": (
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' }}"
        + IMAGES
        + TEXTS
        + "{{ ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'][0]['text'] + END }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    ),
    "34b": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
        + IMAGES.replace("\\n", "")
        + TEXTS.replace("{{ part", "{{ '\\n' + part")
        + "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}
SYSTEM = {
    "vicuna": "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions.",
    "34b": "Answer the questions.",
}
WORDS = (
    "▁USER USER ▁ASSISTANT : ▁Is ▁it ▁late ? ▁No ▁A ▁cat ▁dog . , 's ▁Describe ▁the ▁image ▁[ [ INST ] / ▁[/ ▁ ▁< "
    "system user assistant Is Describe A No Answer ▁questions ▁chat ▁between ▁a ▁curious ▁user ▁and ▁an ▁artificial "
    "▁intelligence ▁assistant ▁The ▁gives ▁helpful ▁detailed ▁polite ▁answers ▁to s > ▁Answer cat s"
)


def llama_like(name, end="</s> "):
    """
    The processor of "vicuna", "mistral" or "34b". Mistral's template writes `end` after an answer; on the Hub it is
    misspelt.
    """
    is_34b = name == "34b"
    special = ["<unk>", "<|startoftext|>" if is_34b else "<s>", "<|im_end|>" if is_34b else "</s>", "<pad>", "<image>"]
    special += ["<|im_start|>"] if is_34b else []
    words = [word for word in dict.fromkeys(WORDS.split()) if word not in special]
    pieces = [(token, 0.0) for token in special] + [(word, -1.0) for word in words]
    pieces += [(f"<0x{octet:02X}>", -20.0) for octet in range(256)]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        unk_token="<unk>",
        bos_token=special[1],
        eos_token=special[2],
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", **({"start_token": "<|im_start|>"} if is_34b else {})},
    )
    if not is_34b:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    processor = copy(tiny_processor())
    processor.tokenizer, processor.image_token_id = tokenizer, tokenizer.convert_tokens_to_ids("<image>")
    processor.chat_template = TEMPLATES[name].replace("END", repr(end))
    return processor
