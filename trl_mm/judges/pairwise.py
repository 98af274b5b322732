"""A judge that is a vision-language model of transformers, on this machine."""

import contextlib
import logging

import torch
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel, ProcessorMixin
from transformers.utils.quantization_config import QuantizationConfigMixin

from ..generation import Completer, Request, SamplingSettings, check_sees_images
from ..generation.one_process import in_one_process
from ..tokens.chat_template import with_system_prompt
from ..tokens.control_tokens import as_text, image_placeholders
from ..tokens.processor import vision_processor_of
from .annotator import Annotator
from .prompts import Questions


logger = logging.getLogger(__name__)


class PairwiseVLMJudge(Annotator):
    """
    Has a vision-language model compare two answers, greedily, in both orders or once.

    A model that is named is loaded here, whole in every process, so that what is wrong with it shows at once. One that
    is passed is used as it is, in eval mode while it judges, and without its adapters if it is a PEFT model: the base
    of the policy judges what the policy writes.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]): id or path of a vision-language model, or the model.
        processor ([`~transformers.ProcessorMixin`], *optional*): processor of the model; needed with a model object.
        style (`str`, *optional*, defaults to `"both_orders"`): `"both_orders"` asks about each pair twice, each answer
            once in front, and counts only what is said both times; `"paper"` asks once, in a random order, for one of
            the two, as arXiv 2407.02477 does.
        seed (`int`, *optional*, defaults to `0`): what the order in `"paper"` derives from, together with the pair.
        batch_size (`int`, *optional*, defaults to `8`): questions that go through the model together, at most; a pair
            is two in both orders. A batch has at most 16,384 tokens, too ([`SamplingSettings`]).
        max_new_tokens (`int`, *optional*, defaults to `128`): longest reply, in tokens.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`): data type of the weights; `"auto"` is that of
            the checkpoint.
        device (`str` or `torch.device`, *optional*): where the model is loaded; defaults to the current accelerator.
        load_in_4bit (`bool`, *optional*, defaults to `False`): whether to load the weights as 4-bit NF4; needs
            bitsandbytes.
        quantization_config (`QuantizationConfigMixin`, *optional*): how to quantize, instead of `load_in_4bit`.
        revision (`str`, *optional*, defaults to `"main"`): branch, tag or commit of the model.
        attn_implementation (`str`, *optional*): such as `"sdpa"`, `"eager"` or `"flash_attention_2"`.
        trust_remote_code (`bool`, *optional*, defaults to `False`): whether code from the model's repository may run.
        system_prompt (`str`, *optional*): system message in front of each question, such as the one that the judge was
            trained with.

    Raises:
        ValueError: there is no processor with a model object, both quantizations are given, the model is no
            vision-language model, its chat template is missing or takes no system message, or an argument is out of
            range.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: ProcessorMixin | None = None,
        *,
        style: str = "both_orders",
        seed: int = 0,
        batch_size: int = 8,
        max_new_tokens: int = 128,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        load_in_4bit: bool = False,
        quantization_config: QuantizationConfigMixin | None = None,
        revision: str = "main",
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        system_prompt: str | None = None,
    ):
        super().__init__(style, seed, max_new_tokens)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        if load_in_4bit:
            if quantization_config is not None:
                raise ValueError(
                    "`load_in_4bit` and `quantization_config` are two ways to quantize. Pass one of them."
                )
            quantization_config = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
            )
        if isinstance(model, str):
            source = {"revision": revision, "trust_remote_code": trust_remote_code}
            # The processor first: what is no vision-language model is refused before its weights are read
            processor = vision_processor_of(model, "The judge", processor, **source)
            processor = with_system_prompt(processor, system_prompt)
            system_prompt = None
            with in_one_process():
                model = AutoModelForImageTextToText.from_pretrained(
                    model,
                    dtype=dtype,
                    device_map={"": device or _current_device()},
                    quantization_config=quantization_config,
                    attn_implementation=attn_implementation,
                    **source,
                )
            model.requires_grad_(False)
        elif processor is None:
            raise ValueError("`processor` is needed with a model object. Pass the one that belongs to it.")
        elif quantization_config is not None:
            raise ValueError("A model object is used as it is: quantize it when it is loaded, or pass its name.")
        check_sees_images(model, "the judge")
        self.model = model
        processor = with_system_prompt(processor, system_prompt)
        self.completer = Completer(processor, SamplingSettings(max_new_tokens, temperature=0.0, batch_size=batch_size))

    def _ask(self, questions: Questions) -> list[str | None]:
        if any(hasattr(parameter, "ds_id") for parameter in self.model.parameters()):
            raise ValueError(
                "The judge's weights are spread over the processes (ZeRO-3), which would have to generate in step. "
                "Pass the name of the model instead of the model, so that every process loads its own, or a "
                "`RemoteJudge`."
            )
        rows = [{"images": list(images), "prompt": self._messages(text)} for text, images in questions]
        prompts = self.completer.prompts(rows)
        room = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or float("inf")
        fitting = [
            index
            for index, prompt in enumerate(prompts)
            if len(prompt.ids) + self.completer.settings.max_new_tokens <= room
        ]
        if len(fitting) < len(prompts):
            logger.warning(
                "%d of %d questions are longer than the judge can read (%d tokens); their pairs are invalid.",
                len(prompts) - len(fitting),
                len(prompts),
                room,
            )
        adapters = getattr(self.model, "disable_adapter", contextlib.nullcontext)
        with in_one_process(), adapters():
            replies = self.completer.complete(self.model, [Request(prompts[index]) for index in fitting])
        answered = dict(zip(fitting, replies, strict=True))
        return [answered.get(index) for index in range(len(prompts))]

    def _messages(self, text: str) -> list[dict[str, str]]:
        # An answer that spells an image or the end of a turn would be read as one
        processor = self.completer.processor
        added = self.completer.tokenizer.added_tokens_decoder.values()
        tokens = {token.content for token in added if token.special and not token.content.isspace()}
        text = as_text(text, tokens | image_placeholders(processor))
        return [{"role": "user", "content": text}]


def _current_device() -> str:
    accelerator = torch.accelerator.current_accelerator()
    return "cpu" if accelerator is None else f"{accelerator.type}:{torch.accelerator.current_device_index()}"
