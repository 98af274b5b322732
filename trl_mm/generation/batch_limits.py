"""How large a batch may be: as set, or `"auto"`, found by trial at the start and halved when memory ends after all."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import GenerationConfig

from .batches import batches
from .decoding import AUTO, SamplingSettings
from .inputs import model_inputs
from .prompts import Request


logger = logging.getLogger(__name__)

ON_CPU = 32  # rows of a batch where no trial tells: memory there ends with the process
MOST = 512  # rows of a batch, at most: more of them make no GPU faster


class BatchLimits:
    """
    Limits of the batches of one [`Completer`].

    Args:
        settings ([`SamplingSettings`]): `batch_size` and `max_batch_tokens`, which is a beginning if the former is
            `"auto"`.

    Attributes:
        batch_size (`int`): requests of a batch, at most.
        max_batch_tokens (`int`): tokens of a batch, at most.
    """

    def __init__(self, settings: SamplingSettings):
        self.adapts = settings.batch_size == AUTO
        self.is_tried = not self.adapts
        self.batch_size = ON_CPU if isinstance(settings.batch_size, str) else settings.batch_size
        self.max_batch_tokens = settings.max_batch_tokens

    def try_out(self, model: Any, processor: Any, request: Request, length: int, positions: str = "collapsed") -> None:
        """
        Find the largest batch that fits, if that shall be found and has not been: by batches of one request, twice as
        many each time, as long as the model can read them.

        Args:
            model ([`~transformers.PreTrainedModel`]): the model, within [`generating`].
            processor ([`~transformers.ProcessorMixin`]): its processor.
            request ([`Request`]): the longest one.
            length (`int`): its tokens, with those still to be written.
            positions (`str`, *optional*, defaults to `"collapsed"`): as in [`Completer.complete`].
        """
        if self.is_tried or model.device.type == "cpu":
            return
        self.is_tried = True
        fitting = largest(lambda count: fits(model, processor, request, length, count, positions))
        self.batch_size, self.max_batch_tokens = MOST, max(1, fitting) * length
        logger.info(
            f"`batch_size='auto'`: {fitting} completions of {length} tokens fit into memory, so batches hold "
            f"{self.max_batch_tokens} tokens."
        )

    def halve(self, rows: int, length: int) -> bool:
        """
        Make batches smaller after one that did not fit.

        Args:
            rows (`int`): its requests.
            length (`int`): tokens of the longest.

        Returns:
            `bool`: whether that is possible: not if a request is alone already, or limits are set.
        """
        if not self.adapts or rows == 1 or self.max_batch_tokens < length:
            return False
        self.max_batch_tokens = min(self.max_batch_tokens, rows * length) // 2
        logger.warning(
            f"Memory is not enough for {rows} completions of {length} tokens: batches hold {self.max_batch_tokens} "
            "tokens from now on."
        )
        return True


def in_batches(
    groups: Iterable[list[int]],
    lengths: Sequence[tuple[int, int]],
    limits: BatchLimits,
    complete: Callable[[list[list[int]]], Iterator[tuple[list[int], list[str]]]],
    let_go: Callable[[], None] | None = None,
) -> list[str]:
    """
    Complete groups of requests batch by batch, and those of a batch that did not fit in smaller ones.

    Args:
        groups, lengths: as in [`~trl_mm.generation.batches.batches`].
        limits ([`BatchLimits`]): how large a batch may be.
        complete (`Callable`): from the groups of a batch to pairs of numbers of requests and their texts.
        let_go (`Callable`, *optional*): called after a batch that did not fit, to give memory back.

    Returns:
        `list[str]`: text of each request.
    """
    texts: dict[int, str] = {}
    waiting = list(groups)
    while waiting:
        failed = _completed(waiting, lengths, limits, complete, texts)
        if failed is None:
            break
        error, batch = failed
        rows, longest = sum(map(len, batch)), max(sum(lengths[index]) for group in batch for index in group)
        if not limits.halve(rows, longest):
            raise error
        # The exception holds the frames, and they what they had computed
        del error, failed
        if let_go is not None:
            let_go()
        clear_device_cache(garbage_collection=True)
        waiting = [rest for group in waiting if (rest := [index for index in group if index not in texts])]
    return [texts[index] for index in range(len(lengths))]


def _completed(groups, lengths, limits, complete, texts):
    """What failed for lack of memory, as the error and its batch; `None` once all is completed."""
    for batch in batches(groups, lengths, limits):
        try:
            for indices, found in complete(batch):
                texts.update(zip(indices, found, strict=True))
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            return error, batch
    return None


def largest(fits: Callable[[int], bool]) -> int:
    """The largest power of two (`int`), up to `MOST`, that fits; 0 if a single one does not."""
    count = 1
    while count <= MOST and fits(count):
        count *= 2
    return count // 2


def fits(model: Any, processor: Any, request: Request, length: int, count: int, positions: str) -> bool:
    """Whether `count` copies of a request, filled up to `length` tokens, go through the model (`bool`)."""
    filler = [processor.tokenizer.pad_token_id] * (length - request.prompt_length)
    config = GenerationConfig(max_new_tokens=1, pad_token_id=processor.tokenizer.pad_token_id, use_cache=True)
    inputs: dict[str, Any] = {}
    try:
        inputs = model_inputs(model, processor, [request] * count, [filler] * count, positions)
        model.generate(**inputs, generation_config=config, synced_gpus=False)
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        found = False
    else:
        found = True
    del inputs
    clear_device_cache(garbage_collection=True)
    return found
