"""Answers, continuations and predictions of a vision-language model."""

from os.path import commonprefix

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from ..data.chat import prompt_ids, render, text_ids
from .inputs import model_inputs
from .prompts import Prompt
from .sampling import SamplingSettings, StopWhere, generating


CONTEXT_TOKENS = 8  # decoded in front of new tokens, since some tokenizers strip the space of a first token


class Completer:
    """
    Writes answers, or their continuations, with a vision-language model.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model, with a chat template.
        settings ([`SamplingSettings`], *optional*): how completions are sampled.
    """

    def __init__(self, processor, settings=None):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.settings = settings or SamplingSettings()
        token = getattr(processor, "image_token_id", None)
        if token is None or text_ids(processor, processor.image_token) != [token]:
            raise ValueError(
                f"`processor` ({type(processor).__name__}) has no image token that its tokenizer knows, so answers "
                "about images cannot be sampled with it. Pass the processor that belongs to a vision-language model "
                "(`AutoProcessor.from_pretrained`)."
            )

    def prompts(self, rows):
        """Render and tokenize rows (`list[dict]` with PIL `images`); returns `list[Prompt]`. No pixel is touched."""
        prompts = []
        for row in rows:
            rendered = render(row, self.processor)
            ids = torch.tensor(prompt_ids(self.processor, rendered.prompt, row["images"]), dtype=torch.long)
            is_image = ids == self.processor.image_token_id
            prompts.append(Prompt(row, rendered.prompt, rendered.lead, rendered.answer, ids, is_image))
        return prompts

    def complete(self, model, requests, find_end=None, positions="collapsed"):
        """
        Complete all requests, sorted by length so that padding stays small.

        Args:
            model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
            requests (`list` of [`Request`]): what to complete.
            find_end (`Callable[[str], int | None]`, *optional*): given the new text of a row so far, where the
                completion ends, or `None` to go on. Without it a completion ends with the end token.
            positions (`str`, *optional*, defaults to `"collapsed"`): what hidden tokens do to the positions of the
                others: `"collapsed"` closes the gap, `"original"` keeps it.

        Returns:
            `list[str]`: new text of each request, without its prefix, in the order of the requests.

        Raises:
            ValueError: the model cannot hide image tokens but a request asks for it.
        """
        config = self._generation_config(model)
        several = len({id(request.prompt) for request in requests}) < len(requests)  # of some prompt

        def complete(batch):
            return self._complete(model, batch, config, find_end, positions, keep_features=several)

        with generating(model):
            return self._in_batches(complete, requests)

    def predict(self, model, requests):
        """
        Predict each token of the rows' own answers from the answer's tokens before it (teacher forcing, argmax).

        Special tokens are left out of the choice, so that an end token in the middle neither ends nor shortens what is
        read: a prediction has as many tokens as the answer.

        Args:
            model ([`~transformers.PreTrainedModel`]): the model, unwrapped.
            requests (`list` of [`Request`]): prompts of rows with an answer, and what is visible of their images.

        Returns:
            `list[str]`: the predicted tokens as text, in the order of the requests.
        """
        banned = sorted({*image_token_ids(model.config, self.processor), *self.tokenizer.all_special_ids})
        with generating(model):
            return self._in_batches(lambda batch: self._predict(model, batch, banned), requests)

    def _in_batches(self, answer, requests):
        """Texts of `answer(batch)` in the order of the requests, for batches of requests of similar length."""
        texts = [""] * len(requests)
        lengths = [self._length(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: lengths[index])
        for start in range(0, len(order), self.settings.batch_size):
            indices = order[start : start + self.settings.batch_size]
            for index, text in zip(indices, answer([requests[index] for index in indices]), strict=True):
                texts[index] = text
        return texts

    def _length(self, request):
        visible = request.prompt.num_image_tokens if request.visible is None else int(request.visible.sum())
        return len(request.prompt.ids) - request.prompt.num_image_tokens + visible + len(request.prefix) // 4

    def _complete(self, model, batch, config, find_end, positions, keep_features):
        prefixes = [text_ids(self.processor, request.prefix) for request in batch]
        contexts = [self._context(request.prompt, prefix) for request, prefix in zip(batch, prefixes, strict=True)]
        inputs = model_inputs(model, self.processor, batch, prefixes, positions, keep_features)
        start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0

        def new_texts(sequences):
            return [
                self._text(context, ids) for context, ids in zip(contexts, sequences[:, start:].tolist(), strict=True)
            ]

        sequences = model.generate(
            **inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList(self.settings.processors([request.seed for request in batch])),
            stopping_criteria=StoppingCriteriaList([StopWhere(find_end, new_texts)] if find_end else []),
        )
        texts = new_texts(sequences)
        return [text[: find_end(text)] for text in texts] if find_end else texts

    def _predict(self, model, batch, banned):
        given, answers, contexts = [], [], []
        for prompt in (request.prompt for request in batch):
            ids = text_ids(self.processor, prompt.lead + prompt.answer)
            # Earlier turns, if `chosen` has several messages, are no part of the answer
            start = len(commonprefix([ids, text_ids(self.processor, prompt.lead.rstrip())]))
            given.append(ids)
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
        )

    def _context(self, prompt, prefix):
        return [*prompt.ids[-CONTEXT_TOKENS:].tolist(), *prefix][-CONTEXT_TOKENS:]

    def _text(self, context, ids):
        """New text after `context`, with the space that a tokenizer would strip from a text that begins with it."""
        before = self._decode(context)
        whole = self._decode(context + ids)
        text = whole[len(before) :] if whole.startswith(before) else self._decode(ids)
        return text.replace(self.processor.image_token, "")  # spelled in other tokens, it would be read as an image

    def _decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def image_token_ids(config, processor):
    """Ids of the tokens that stand for images or videos and must not be sampled (`list[int]`, sorted)."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    found = {getattr(config, name, None) for name in names} | {processor.image_token_id}
    return sorted(token for token in found if token is not None)
