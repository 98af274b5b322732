"""Rows to the batch that TRL's loss takes."""

from dataclasses import dataclass

import torch
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from ..data.images import with_open_images
from .chat import render
from .chat_template import bos_ids, render_examples


COLUMNS = ("images", "prompt", "chosen", "rejected")
# Computed before training by `precompute_ref_log_probs`
REF_LOG_PROBS = ("ref_chosen_logps", "ref_rejected_logps")
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


@dataclass
class PreferenceCollator(DataCollatorForVisionPreference):
    """
    The only change w.r.t. `DataCollatorForVisionPreference` is that rows keep their images as they are stored until a
    batch needs them, that rows are not modified, that BOS and EOS tokens are added which the chat template leaves
    out, and that rows without `rejected` pass through as `{"rows": rows}` for the trainer to make pairs from. With
    `images_per_prompt`, pixels are processed and returned once per row, as [`share_prefixes`] expects them, and not
    once for each answer. `ref_chosen_logps` and `ref_rejected_logps` of the rows become tensors of shape
    `(batch_size,)`.

    With `two_rejected`, rows pass through until they have a `second_rejected`. Their batch then has
    `3 * batch_size` rows, the second rejected answers last, if images are processed once; else it is
    `{"pairs": [batch, batch]}`, one for each kind of rejected answer.

    A row with `answer_ids`, two lists of token ids, has them in place of what `chosen` and `rejected` would tokenize
    to, and the prompt that is rendered without answers: a sampled answer is scored as it was sampled.
    """

    images_per_prompt: bool = False
    two_rejected: bool = False

    def torch_call(self, examples):
        needed = ("rejected", "second_rejected") if self.two_rejected else ("rejected",)
        if any(example.get(name) is None for example in examples for name in needed):
            return {"rows": examples}
        opened = map(with_open_images, examples)
        rows = [{name: example[name] for name in COLUMNS} for example in opened]
        processor = PromptsWithBegin(self.processor) if bos_ids(self.processor) else self.processor
        processor = PromptsOnce(processor) if self.images_per_prompt else processor
        if any(example.get("answer_ids") for example in examples):
            processor = AnswersAsSampled(
                processor, [example.get("answer_ids") or (None, None) for example in examples]
            )
        collator = DataCollatorForVisionPreference(
            processor, max_length=self.max_length, pad_to_multiple_of=self.pad_to_multiple_of
        )
        texts = self._rendered(rows)
        for text, row, example in zip(texts, rows, examples, strict=True):
            if example.get("answer_ids"):  # LLaVA-OneVision's template writes another prompt in front of an answer
                text["prompt"] = render({"images": row["images"], "prompt": row["prompt"]}, self.processor).prompt
        batch = collator.torch_call(texts)
        if self.two_rejected:
            others = [
                {**row, "rejected": example["second_rejected"]} for row, example in zip(rows, examples, strict=True)
            ]
            other = collator.torch_call(self._rendered(others))
            return self._joined(batch, other) if self.images_per_prompt else {"pairs": [batch, other]}
        for name in REF_LOG_PROBS:
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples])  # (B,)
        return batch

    def _rendered(self, rows):
        """Rows with text in place of messages, which TRL's collator takes as it is."""
        examples = [
            {
                "prompt": prepare_multimodal_messages(row["prompt"], images=row["images"]),
                "chosen": prepare_multimodal_messages(row["chosen"]),
                "rejected": prepare_multimodal_messages(row["rejected"]),
            }
            for row in rows
        ]
        texts = render_examples(examples, self.processor)
        return [{"images": row["images"], **text} for row, text in zip(rows, texts, strict=True)]

    def _joined(self, batch, other):
        """Both answers of a batch, and the rejected ones of another with the same prompts: `(3 * batch_size, T)`."""
        length = max(batch["input_ids"].shape[1], other["input_ids"].shape[1])
        fill = {"input_ids": self.processor.tokenizer.pad_token_id}

        def padded(values, name):
            return torch.nn.functional.pad(values, (0, length - values.shape[1]), value=fill.get(name, 0))

        for name in (*PER_TOKEN, "completion_mask"):
            if name in batch:
                rejected = other[name][len(other[name]) // 2 :]
                batch[name] = torch.cat([padded(batch[name], name), padded(rejected, name)])
        return batch


class PromptsWithBegin:
    """The processor for TRL's collator, which asks for no special tokens: prompts come with the BOS token."""

    def __init__(self, processor):
        self.processor = processor

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, text, padding_side=None, **kwargs):
        special = {"add_special_tokens": padding_side != "right"}
        return self.processor(text=text, padding_side=padding_side, **{**kwargs, **special})


class PromptsOnce:
    """
    The processor for TRL's collator, which asks for every prompt and its images twice: pixels come once. The prompts
    that it was asked for last are not processed again.
    """

    def __init__(self, processor):
        self.processor = processor
        self.text = self.inputs = None

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, text, images=None, padding_side=None, **kwargs):
        if padding_side == "right":  # answers
            return self.processor(text=text, padding_side=padding_side, **kwargs)
        if text != self.text:
            half = len(text) // 2
            images = None if images is None else images[:half]
            inputs = self.processor(text=text[:half], images=images, padding_side=padding_side, **kwargs)
            for name in PER_TOKEN:
                if name in inputs:
                    inputs[name] = torch.cat([inputs[name]] * 2)
            self.text, self.inputs = text, inputs
        return self.inputs.copy()


class AnswersAsSampled:
    """
    The processor for TRL's collator, which asks for the chosen answers and then for the rejected ones: token ids take
    the place of text.

    Args:
        processor ([`~transformers.ProcessorMixin`]): the processor.
        answer_ids (`list[tuple]`): for each row the token ids of both answers, or twice `None` to tokenize their text.
    """

    def __init__(self, processor, answer_ids):
        self.processor = processor
        self.waiting = list(zip(*answer_ids, strict=True))

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, text, images=None, padding_side=None, **kwargs):
        if padding_side != "right":  # prompts
            return self.processor(text=text, images=images, padding_side=padding_side, **kwargs)
        inputs = self.processor(text=text, padding_side=padding_side, **kwargs)
        written = [row[keep.bool()] for row, keep in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
        rows = [
            own if sampled is None else torch.tensor(sampled)
            for own, sampled in zip(written, self.waiting.pop(0), strict=True)
        ]

        def padded(rows, value):
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

        inputs["input_ids"] = padded(rows, self.tokenizer.pad_token_id)
        inputs["attention_mask"] = padded([torch.ones_like(row) for row in rows], 0)
        for name in PER_TOKEN[2:]:
            if name in inputs:
                inputs[name] = torch.zeros_like(inputs["input_ids"])
        return inputs
