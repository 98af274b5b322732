"""Rows to the batch that TRL's loss takes."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from trl import prepare_multimodal_messages
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference
from trl.trainer.utils import flush_left, pad

from .chat_template import bos_ids, render_examples
from .image_groups import (
    image_groups,
    open_once,
    packed_sizes,
    prompts_of_groups,
    settled_groups,
    tokenizes_apart,
)
from .processor import TOKEN_INPUTS


COLUMNS = ("images", "prompt", "chosen", "rejected")
# Computed before training by `precompute_ref_log_probs`
REF_LOG_PROBS = ("ref_chosen_logps", "ref_rejected_logps")
PACKED_SIZES = "packed_sizes"  # of a batch: what is spared in it


@dataclass
class PreferenceCollator(DataCollatorForVisionPreference):
    """
    The only change w.r.t. `DataCollatorForVisionPreference` is that rows keep their images as they are stored until a
    batch needs them, that rows are not modified, that BOS and EOS tokens are added which the chat template leaves
    out, that each row is rendered, tokenized and its images processed once, and that there are further forms of
    batches.

    A row with `answer_ids`, two lists of token ids, has them in place of what `chosen` and `rejected` would tokenize
    to, and the prompt that is rendered without answers: a sampled answer is scored as it was sampled, and needs no
    text.

    The collator outputs a dictionary, for B rows and sequences of L tokens at most:

    - `"input_ids"`, `"attention_mask"`, `"completion_mask"`: tensors of shape `(2 * B, L)`, all chosen answers behind
      their prompts and then all rejected ones, padded on the right. With some processors `"token_type_ids"` or
      `"mm_token_type_ids"` too.
    - `"pixel_values"` and what else the processor makes of images, such as `"image_sizes"`: the images of all rows,
      twice, for chosen and rejected. Missing if no row has an image. With `images_per_prompt` they come once, as
      [`share_prefixes`] expects them; with `images_per_group` too, once for all rows that show the same.
    - `"groups"`: with `images_per_group`, a tensor of shape `(B,)`, the group of each row, whose images they are; and
      under `PACKED_SIZES` a tensor of shape `(3,)`, which is no input of a model: tokens in TRL's layout, tokens once
      each prefix stands once, and places that these take.
    - `"ref_chosen_logps"`, `"ref_rejected_logps"`: tensors of shape `(B,)`, if rows have these columns.

    With `two_rejected`, rows have a `second_rejected`. The tensors of tokens then have `3 * B` rows, the second
    rejected answers last, if images come once; else the batch is `{"pairs": [batch, batch]}`, one as above for each
    kind of rejected answer.

    If a row lacks a rejected answer, the batch is `{"rows": rows}`, for the trainer to make pairs from.

    Args:
        processor ([`~transformers.ProcessorMixin`]):
            Processor of the model.
        max_length (`int`, *optional*):
            Tokens that longer sequences are cut to.
        images_per_prompt (`bool`, *optional*, defaults to `False`):
            Whether images come once for each row, and not once for each answer.
        two_rejected (`bool`, *optional*, defaults to `False`):
            Whether rows have two rejected answers.
        images_per_group (`bool`, *optional*, defaults to `False`):
            Whether images come once for all rows that show the same, where `images_per_prompt` is set. Rows with other
            questions count, unless the model's processor writes text around an image (Gemma 3), and so do
            rows without images that have one prompt. Groups that would cost more padding than they spare are parted.
    """

    images_per_prompt: bool = False
    two_rejected: bool = False
    images_per_group: bool = False
    _placeholder: str | None = field(default="", init=False, repr=False)  # see `image_groups`; "" before it is known

    def torch_call(self, examples):
        if self.pad_to_multiple_of is not None:
            raise NotImplementedError(
                f"Batches with images cannot be padded to a multiple, got `pad_to_multiple_of="
                f"{self.pad_to_multiple_of}`. Leave it out."
            )
        answers = ("chosen", "rejected", "second_rejected") if self.two_rejected else ("chosen", "rejected")
        written = [example for example in examples if not example.get("answer_ids")]
        if any(example.get(name) is None for example in written for name in answers[1:]):
            return {"rows": examples}
        rows, keys = open_once(examples)
        texts = self._texts(rows)
        answer_ids = self._answer_ids(rows, texts, answers)
        prompts, images = [text["prompt"] for text in texts], [row["images"] for row in rows]
        if self.images_per_group and self.images_per_prompt:
            inputs, groups, sizes = self._inputs_of_groups(keys, prompts, images, answer_ids)
        else:
            inputs, groups = self._prompt_inputs(prompts, images), None
        if self.two_rejected and not self.images_per_prompt:
            chosen, *others = answer_ids
            return {"pairs": [self._batch(inputs, [chosen, rejected]) for rejected in others]}
        batch = self._batch(inputs, answer_ids)
        if groups is not None:
            batch["groups"] = torch.tensor(groups)  # (B,)
            batch[PACKED_SIZES] = torch.tensor([batch["attention_mask"].sum(), *sizes])  # (3,)
        for name in REF_LOG_PROBS:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows])  # (B,)
        return batch

    def of_one_answer(self, rows):
        """
        The batch of rows with one answer each, for a model that scores it.

        Args:
            rows (`list[dict]`): rows with PIL `images`, `prompt` and `chosen`.

        Returns:
            `dict[str, torch.Tensor]`: as above, with `B` rows of tokens and the images once.
        """
        examples = [
            {
                "prompt": prepare_multimodal_messages(row["prompt"], images=row["images"]),
                "completion": prepare_multimodal_messages(row["chosen"]),
            }
            for row in rows
        ]
        texts = render_examples(examples, self.processor)
        once = replace(self, images_per_prompt=True)
        inputs = once._prompt_inputs([text["prompt"] for text in texts], [row["images"] for row in rows])
        return once._batch(inputs, once._answer_ids(rows, texts, ("completion",)))

    def _texts(self, rows):
        """Prompt and answers of each row as the chat template renders them (`list[dict[str, str]]`)."""
        prompts = [{"prompt": prepare_multimodal_messages(row["prompt"], images=row["images"])} for row in rows]
        # Token ids need no text, and LLaVA-OneVision's template writes another prompt in front of an answer
        examples = [
            prompt
            if row.get("answer_ids")
            else {**prompt, **{name: prepare_multimodal_messages(row[name]) for name in ("chosen", "rejected")}}
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        if not self.two_rejected:
            return render_examples(examples, self.processor)
        # TRL's name for the only answer is `completion`
        examples += [
            {**prompt, "completion": prepare_multimodal_messages(row["second_rejected"])}
            for prompt, row in zip(prompts, rows, strict=True)
        ]
        texts = render_examples(examples, self.processor)
        pairs, others = texts[: len(rows)], texts[len(rows) :]
        return [{**pair, "second_rejected": other["completion"]} for pair, other in zip(pairs, others, strict=True)]

    def _answer_ids(self, rows, texts, names):
        """Token ids of the answers (`list[list[list[int]]]`), for each of the names those of all rows."""
        tokenizer = self.processor.tokenizer
        ids = [
            tokenizer([text.get(name, "") for text in texts], add_special_tokens=False)["input_ids"] for name in names
        ]
        for number, row in enumerate(rows):
            for answers, sampled in zip(ids, row.get("answer_ids") or (), strict=False):
                answers[number] = sampled
        return ids

    def _prompt_inputs(self, prompts, images):
        """What the processor makes of prompts, padded on the left to P tokens, and of their images."""
        inputs = dict(
            self.processor(
                text=prompts,
                images=images if any(images) else None,
                padding=True,
                padding_side="left",
                return_tensors="pt",
                add_special_tokens=bool(bos_ids(self.processor)),
            )
        )
        if self.images_per_prompt:
            return inputs
        return {name: value if name in TOKEN_INPUTS else torch.cat([value] * 2) for name, value in inputs.items()}

    def _inputs_of_groups(self, keys, prompts, images, answer_ids):
        """As [`_prompt_inputs`], with the images once per group; the group of each row; and [`packed_sizes`]."""
        if self._placeholder == "" and len(set(keys)) < len(keys) and any(images):
            self._placeholder = self.processor.image_token if tokenizes_apart(self.processor) else None
        groups = image_groups(keys, prompts, self._placeholder)
        inputs = self._inputs_of_leaders(groups, prompts, images)
        lengths = inputs["attention_mask"].sum(1).tolist()
        ids = [ids[-length:].tolist() for ids, length in zip(inputs["input_ids"], lengths, strict=True)]
        sequences = [
            [np.array((prompt + answer)[: self.max_length][:-1]) for answer in answers if answer] or [np.array(prompt)]
            for prompt, *answers in zip(ids, *answer_ids, strict=True)
        ]
        settled = groups
        if len(set(groups)) < len(groups):
            settled = settled_groups(groups, sequences, lengths)
        if settled != groups:
            inputs = self._inputs_of_leaders(settled, prompts, images)
        return inputs, settled, packed_sizes(settled, sequences, lengths)

    def _inputs_of_leaders(self, groups, prompts, images):
        leaders = [groups.index(group) for group in range(max(groups) + 1)]
        inputs = self._prompt_inputs([prompts[row] for row in leaders], [images[row] for row in leaders])
        return prompts_of_groups(inputs, groups, prompts, self.processor)

    def _batch(self, inputs, answers):
        """The batch of `B` prompts and K answers to each, given as K lists of token ids for all prompts."""
        tokenizer = self.processor.tokenizer
        lengths = torch.tensor([len(ids) for kind in answers for ids in kind])[:, None]  # (K * B, 1)
        stacked = [
            pad_sequence([torch.tensor(ids, dtype=torch.long) for ids in kind], True, tokenizer.pad_token_id)
            for kind in answers
        ]
        # Where padding has the id 0, TRL fills up the shorter kind with EOS tokens
        answer_ids = torch.cat(list(pad(stacked, tokenizer.pad_token_id or tokenizer.eos_token_id)))  # (K * B, A)
        is_answer = (torch.arange(answer_ids.shape[1]) < lengths).long()
        prompts = {name: inputs[name].repeat(len(answers), 1) for name in TOKEN_INPUTS if name in inputs}  # (K * B, P)
        follows = {"input_ids": answer_ids, "attention_mask": is_answer}
        tokens = {
            name: torch.cat([value, follows.get(name, torch.zeros_like(answer_ids))], 1)
            for name, value in prompts.items()
        }
        tokens["completion_mask"] = torch.cat([torch.zeros_like(prompts["input_ids"]), is_answer], 1)
        mask = tokens.pop("attention_mask")
        flushed = dict(zip(("attention_mask", *tokens), flush_left(mask, *tokens.values()), strict=True))
        return {**inputs, **{name: value[:, : self.max_length] for name, value in flushed.items()}}
