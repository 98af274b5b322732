"""The processor that a trainer works with."""

import logging

from transformers import ProcessorMixin

from ..tokens.chat_template import bos_ids, missing_eos, unknown_eos, with_system_prompt
from ..tokens.processor import vision_processor_of


logger = logging.getLogger(__name__)


def vision_processor(model_id, args, processor=None):
    """
    The processor of a vision-language model, with the padding token that training needs, and the system prompt.

    Args:
        model_id (`str`): id or path of the model.
        args ([`~trl.DPOConfig`]): arguments of the trainer: revision of the model, `pad_token` and `system_prompt`.
        processor ([`~transformers.ProcessorMixin`], *optional*): the processor. Loaded if it is not given.

    Raises:
        ValueError: the model has no image processor or no chat template, `pad_token` is not in the vocabulary, or the
            chat template takes no system message.
        TypeError: `processor` is no processor of a vision-language model.
    """
    if processor is not None and not isinstance(processor, ProcessorMixin):
        raise TypeError(
            f"`processing_class` must be the processor of a vision-language model, got "
            f"{type(processor).__name__}. Text-only models train with TRL's own trainer."
        )
    revision = (args.model_init_kwargs or {}).get("revision")
    processor = vision_processor_of(
        model_id, "`model`", processor, revision=revision, trust_remote_code=args.trust_remote_code
    )
    pad_token = getattr(args, "pad_token", None) or processor.tokenizer.pad_token or processor.tokenizer.eos_token
    if pad_token not in processor.tokenizer.get_vocab():
        raise ValueError(f"`pad_token` ({pad_token!r}) is not in the vocabulary of the tokenizer. Use one that is.")
    processor.tokenizer.pad_token = pad_token
    for name, missing in (("BOS", bos_ids(processor)), ("EOS", missing_eos(processor))):
        if missing:
            logger.info(
                "The chat template of `%s` writes no %s token, so it is added. TRL trains without.", model_id, name
            )
    if tail := unknown_eos(processor):
        logger.warning(
            "The chat template of `%s` writes %r after an answer, which is no EOS token, so the model is trained to "
            "go on with that and not to end. Have the template write %s there (`processor.chat_template`, or "
            "chat_template.jinja in the folder of the model).",
            model_id, tail, processor.tokenizer.eos_token,
        )  # fmt: skip
    return with_system_prompt(processor, args.system_prompt)
