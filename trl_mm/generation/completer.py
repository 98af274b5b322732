"""Answers, continuations and predictions of a vision-language model."""

from collections.abc import Callable, Mapping, Sequence
from os.path import commonprefix
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedConfig, StoppingCriteriaList

from ..data.shown import shown
from ..tokens.chat import prompt_ids, render, text_ids
from ..tokens.chat_template import check_chat_template
from .batch_limits import BatchLimits, in_batches
from .batches import batches, same_beginnings
from .decoding import SamplingSettings, StopWhere, generating
from .inputs import model_inputs
from .prefill import CACHE, beginnings, continue_from, prefill, supports_continuation
from .prompts import Prompt, Request
from .sight import check_sees_images
from .static_cache import StaticCaches
from .vllm import VLLMModel


CONTEXT_TOKENS = 8  # decoded in front of new tokens, since some tokenizers strip the space of a first token
CHARACTER_TOKENS = 4  # a character outside the vocabulary is up to four tokens, one for each byte
UNREADABLE = "\ufffd"  # what bytes that are no character decode to


class Completer:
    """
    Writes answers, or their continuations, with a vision-language model.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model, with a chat template.
        settings ([`SamplingSettings`], *optional*): how completions are sampled.
    """

    def __init__(self, processor: Any, settings: SamplingSettings | None = None):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.settings = settings or SamplingSettings()
        self.limits = BatchLimits(self.settings)
        self._special_ids = set(self.tokenizer.all_special_ids)
        token = getattr(processor, "image_token_id", None)
        if token is None or text_ids(processor, processor.image_token) != [token]:
            raise ValueError(
                f"`processor` ({type(processor).__name__}) has no image token that its tokenizer knows, so answers "
                "about images cannot be sampled with it. Pass the processor that belongs to a vision-language model "
                "(`AutoProcessor.from_pretrained`)."
            )
        check_chat_template(processor, self.tokenizer.name_or_path or type(processor).__name__)

    def prompts(self, rows: Sequence[Mapping[str, Any]]) -> list[Prompt]:
        """Render and tokenize rows (`list[dict]` with PIL `images`); returns `list[Prompt]`. No pixel is touched."""
        prompts = []
        for row in rows:
            try:
                rendered = render(row, self.processor)
                ids = torch.tensor(prompt_ids(self.processor, rendered.prompt, row["images"]), dtype=torch.long)
            except ValueError as error:
                if "row_id" not in row:
                    raise
                raise ValueError(f"Row {shown(str(row['row_id']))}: {error}") from error
            is_image = ids == self.processor.image_token_id
            prompts.append(Prompt(row, rendered.prompt, rendered.lead, rendered.answer, ids, is_image))
        return prompts

    def complete(
        self,
        model: Any,
        requests: Sequence[Request],
        find_end: Callable[[str], int | None] | None = None,
        positions: str = "collapsed",
    ) -> list[str]:
        """
        Complete all requests, sorted by length so that padding stays small. A prompt that several of them show alike
        goes through the model once, its images included; so do the same images (as objects) at the beginning of
        different prompts.

        Args:
            model ([`~transformers.PreTrainedModel`] or [`~trl_mm.generation.vllm.VLLMModel`]): the model, unwrapped,
                with all of its weights; or one that vLLM runs.
            requests (`list` of [`Request`]): what to complete.
            find_end (`Callable[[str], int | None]`, *optional*): given the new text of a row so far, where the
                completion ends, or `None` to go on. Without it a completion ends with the EOS token.
            positions (`str`, *optional*, defaults to `"collapsed"`): what hidden tokens do to the positions of the
                others: `"collapsed"` closes the gap, `"original"` keeps it.

        Returns:
            `list[str]`: new text of each request, without its prefix, in the order of the requests.

        Raises:
            ValueError: the model takes no images, cannot hide image tokens but a request asks for it, or cannot
                decode with a static cache but the settings ask for one.
        """
        if isinstance(model, VLLMModel):
            return self._written_by_vllm(model, requests, find_end, positions)
        check_sees_images(model)
        config = self._generation_config(model)
        continued = [text_ids(self.processor, request.prefix) for request in requests]
        groups, shared = [[index] for index in range(len(requests))], [len(r.prompt.ids) for r in requests]
        if supports_continuation(model):
            groups, shared = same_beginnings(requests)
        rests = [request.prompt.ids[tokens:].tolist() for request, tokens in zip(requests, shared, strict=True)]
        new = self.settings.max_new_tokens
        lengths = [
            (request.prompt_length - len(rest), len(rest) + len(ids) + new)
            for request, rest, ids in zip(requests, rests, continued, strict=True)
        ]
        static = StaticCaches(model, new) if self.settings.cache_implementation == "static" else None

        def completed(batch):
            parts = self._inputs(model, requests, rests, continued, lengths, batch, positions, static)
            for indices, inputs in parts:
                asked, given = [requests[i] for i in indices], [continued[i] for i in indices]
                yield indices, self._complete(model, inputs, asked, given, config, find_end)

        with generating(model):
            self._try_out(model, requests, lengths, positions)
            return in_batches(groups, lengths, self.limits, completed, static.clear if static else None)

    def predict(self, model: Any, requests: Sequence[Request]) -> list[str]:
        """
        Predict each token of the rows' own answers from the answer's tokens before it (teacher forcing, argmax).

        Special tokens are left out of the choice, so that an EOS token in the middle neither ends nor shortens what is
        read: a prediction has as many tokens as the answer.

        Args:
            model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
            requests (`list` of [`Request`]): prompts of rows with an answer, and what is visible of their images.

        Returns:
            `list[str]`: the predicted tokens as text, in the order of the requests.

        Raises:
            ValueError: the model takes no images, or vLLM runs it.
        """
        if isinstance(model, VLLMModel):
            raise ValueError(
                "vLLM cannot predict the tokens of a given answer one by one (`mode='povid'`). Set `use_vllm=False`."
            )
        check_sees_images(model)
        banned = sorted({*image_token_ids(model.config, self.processor), *self.tokenizer.all_special_ids})
        continued = [text_ids(self.processor, request.prompt.lead + request.prompt.answer) for request in requests]
        lengths = [(request.prompt_length, len(ids)) for request, ids in zip(requests, continued, strict=True)]

        def predicted(batch):
            indices = [index for (index,) in batch]
            given = [continued[index] for index in indices]
            yield indices, self._predict(model, [requests[index] for index in indices], given, banned)

        with generating(model):
            self._try_out(model, requests, lengths)
            return in_batches([[index] for index in range(len(requests))], lengths, self.limits, predicted)

    def _written_by_vllm(self, model, requests, find_end, positions):
        given = [text_ids(self.processor, request.prefix) for request in requests]
        contexts = [self._context(request.prompt, ids) for request, ids in zip(requests, given, strict=True)]

        def ended(index, ids):
            # As if each token were looked at when it is written
            texts = (self._text(contexts[index], ids[: count + 1]) for count in range(len(ids)))
            return next((count for count, text in enumerate(texts, 1) if find_end(text) is not None), None)

        written = model.write(
            [
                model.prompt(self.processor, request, ids, positions)
                for request, ids in zip(requests, given, strict=True)
            ],
            [request.seed or (index,) for index, request in enumerate(requests)],
            self.settings,
            image_token_ids(model.config, self.processor),
            ended if find_end else None,
        )
        texts = [self._text(context, ids) for context, ids in zip(contexts, written, strict=True)]
        return [text[: find_end(text)] for text in texts] if find_end else texts

    def _try_out(self, model, requests, lengths, positions="collapsed"):
        longest = max(range(len(requests)), key=lambda index: sum(lengths[index]), default=None)
        if longest is not None:
            self.limits.try_out(model, self.processor, requests[longest], sum(lengths[longest]), positions)

    def _inputs(self, model, requests, rests, continued, lengths, batch, positions, static):
        """Numbers of requests, and what `generate` needs for them; what several share goes through the model once."""
        number = {index: place for place, group in enumerate(batch) for index in group}
        if len(number) == len(batch):
            indices = list(number)
            given = [continued[index] for index in indices]
            inputs = model_inputs(model, self.processor, [requests[i] for i in indices], given, positions)
            yield indices, {**inputs, CACHE: static.empty(inputs["attention_mask"])} if static else inputs
            return
        firsts = [requests[group[0]] for group in batch]
        inputs = model_inputs(model, self.processor, firsts, [[]] * len(firsts), positions)
        cut = [len(rests[group[0]]) for group in batch]
        inputs = beginnings(inputs, cut, self.tokenizer.pad_token_id)
        last_ids = [int(first.prompt.ids[-1 - count]) for first, count in zip(firsts, cut, strict=True)]
        prefilled = prefill(model, inputs, last_ids)
        # One part, unless a single prompt has more completions than a batch may hold
        for part in batches([[index] for index in number], lengths, self.limits):
            indices = [index for (index,) in part]
            rows, given = [number[i] for i in indices], [[*rests[i], *continued[i]] for i in indices]
            yield indices, continue_from(model, prefilled, rows, given, static)

    def _complete(self, model, inputs, batch, prefixes, config, find_end):
        contexts = [self._context(request.prompt, prefix) for request, prefix in zip(batch, prefixes, strict=True)]
        start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0

        def new_texts(sequences, rows):
            new = sequences[:, start:].tolist()
            return [self._text(contexts[row], new[row]) for row in rows]

        sequences = model.generate(
            **inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList(self.settings.processors([request.seed for request in batch])),
            stopping_criteria=StoppingCriteriaList([StopWhere(find_end, new_texts)] if find_end else []),
            # Weights are whole, also under ZeRO-3, where processes would wait for one another at each token
            synced_gpus=False,
        )
        texts = new_texts(sequences, range(len(contexts)))
        return [text[: find_end(text)] for text in texts] if find_end else texts

    def _predict(self, model, batch, given, banned):
        answers, contexts = [], []
        for prompt, ids in zip((request.prompt for request in batch), given, strict=True):
            # Earlier turns, if `chosen` has several messages, are no part of the answer
            start = len(commonprefix([ids, text_ids(self.processor, prompt.lead.rstrip())]))
            answers.append(len(ids) - start)
            contexts.append(self._context(prompt, ids[:start]))
        inputs = model_inputs(model, self.processor, batch, given)
        # The logits in front of the longest answer's tokens; the last ones predict what follows it
        logits = model(**inputs, use_cache=False, logits_to_keep=max(answers) + 1).logits[:, :-1]  # (B, longest, V)
        logits[..., banned] = -torch.inf
        predicted = logits.argmax(-1).tolist()
        return [
            self._text(context, ids[len(ids) - count :])
            for context, ids, count in zip(contexts, predicted, answers, strict=True)
        ]

    def _generation_config(self, model):
        eos = model.generation_config.eos_token_id
        return GenerationConfig(
            max_new_tokens=self.settings.max_new_tokens,
            min_new_tokens=1,  # an answer of nothing, or a sentence that is left out, is no completion
            do_sample=False,  # `SeededSampling` leaves a single token to choose
            use_cache=True,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id if eos is None else eos,
            suppress_tokens=image_token_ids(model.config, self.processor),
            disable_compile=not self.settings.compile_generation,
        )

    def _context(self, prompt, prefix):
        ids = [*prompt.ids[-CONTEXT_TOKENS - CHARACTER_TOKENS :].tolist(), *prefix]
        # After half a character, a tokenizer that falls back to bytes finds all the following ones unreadable
        contexts = [ids[-CONTEXT_TOKENS - more :] for more in range(CHARACTER_TOKENS)]
        return next((context for context in contexts if not self._decode(context).startswith(UNREADABLE)), contexts[0])

    def _text(self, context, ids):
        """New text after `context`, with the space that a tokenizer would strip from a text that begins with it."""
        before = self._decode(context)
        ids = [token for token in ids if token not in self._special_ids]
        # Half a character at the end of a text that is still being written, or was cut off there, is left out
        ends = (self._decode(context + ids[: max(len(ids) - fewer, 0)]) for fewer in range(CHARACTER_TOKENS))
        whole = next((text for text in ends if not text.endswith(UNREADABLE)), None)
        if whole is None:  # more than that was sampled that is no character
            whole = self._decode(context + ids)
        text = whole[len(before) :] if whole.startswith(before) else self._decode(ids)
        # An image token spelled in other tokens would be read as an image
        return text.replace(self.processor.image_token, "").replace(UNREADABLE, "")

    def _decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def image_token_ids(config: PreTrainedConfig, processor: Any) -> list[int]:
    """Ids of the tokens that stand for images or videos and must not be sampled (`list[int]`, sorted)."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    found = {getattr(config, name, None) for name in names} | {processor.image_token_id}
    return sorted(token for token in found if token is not None)
