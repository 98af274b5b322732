"""
Every task of lmms-eval on a model that is loaded already, with its adapter:

```python
from lmms_eval.evaluator import simple_evaluate
from trl_mm.eval.lmms_eval import LoadedModel

results = simple_evaluate(model=LoadedModel(model, processor), tasks=["gqa", "mme"], limit=100)
```

This module needs the package lmms-eval; nothing else in trl_mm imports it.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from ..data.rows import IMAGE_MARKER
from ..data.shown import shown
from ..generation import Completer, Request, SamplingSettings


try:
    from lmms_eval.api.model import lmms
except ImportError as error:
    raise ImportError(
        f"lmms-eval cannot be imported ({error}): install it with `pip install trl-mm[lmms-eval]`."
    ) from error


logger = logging.getLogger(__name__)

_LONGEST = 1024  # tokens, where a task does not say
# What tasks without stop strings are given by lmms-eval; most of its own models answer in paragraphs all the same
_NO_STOP = "\n\n"
_KNOWN = ("until", "max_new_tokens", "temperature", "top_p", "do_sample", "num_beams")


class LoadedModel(lmms):
    """
    A loaded model as lmms-eval takes it, which its own `llava_hf` does not: with an adapter, in batches sorted by
    length, an image encoded once for all that is asked of it in a batch, and errors that are raised instead of empty
    answers that are scored.

    As in lmms-eval's own models the chat template is the processor's, a context that says where its images are
    (`<image>`) is kept and others have the images first, and a task that does not say it has 1024 tokens, greedily.
    `do_sample=False` is greedy whatever the temperature. A stop string ends an answer, apart from the blank line that
    lmms-eval gives tasks that have none.

    Tasks that compare likelihoods, that go on for several rounds, or that show videos or sound are refused.

    Args:
        model ([`~transformers.PreTrainedModel`] or a PEFT model): the model, on its device.
        processor ([`~transformers.ProcessorMixin`]): its processor.
        batch_size (`int`, *optional*, defaults to `32`): questions that go through the model together.
        seed (`int`, *optional*, defaults to `0`): what sampled answers derive from, together with task and document.
    """

    is_simple = True

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, *, batch_size: int = 32, seed: int = 0):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        self.model, self.processor = model, processor
        self.batch_size, self.seed = batch_size, seed

    @property
    def device(self):
        """Device of the model: lmms-eval counts the documents of several processes there."""
        return self.model.device

    @property
    def config(self):
        """Configuration of the model, from which lmms-eval takes its name."""
        return self.model.config

    def clean(self) -> None:
        """Keeps the model, which lmms-eval would drop after its answers: it belongs to the caller."""

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """
        Answers all requests of lmms-eval.

        Args:
            requests (`list[lmms_eval.api.instance.Instance]`): `args` of each are context, `generation_kwargs`, a
                function from a document to its images, number of the document, task and split.

        Returns:
            `list[str]`: answers in their order.

        Raises:
            ValueError: a task shows something other than images, has more or fewer `<image>` than images, or asks for
                beams.
        """
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(index)
        answers = [""] * len(requests)
        times: Counter[tuple] = Counter()
        with tqdm(total=len(requests), desc="lmms-eval", unit="answer", disable=self.rank != 0) as bar:
            for indices in groups.values():
                settings, stops = self._settings(requests[indices[0]].args[1])
                completer = Completer(self.processor, settings)
                for some in _chunks(indices, 4 * self.batch_size):
                    rows = [self._row(requests[index], times) for index in some]
                    asked = [
                        Request(prompt, seed=row["seed"])
                        for prompt, row in zip(completer.prompts(rows), rows, strict=True)
                    ]
                    find_end = (lambda text, stops=stops: first_stop(text, stops)) if stops else None
                    for index, answer in zip(some, completer.complete(self.model, asked, find_end), strict=True):
                        answers[index] = answer[: first_stop(answer, stops)].strip()
                        context, options = requests[index].args[:2]
                        self.cache_hook.add_partial("generate_until", (context, options), answers[index])
                    bar.update(len(some))
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("Tasks that compare likelihoods are not supported: choose those that generate text.")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("Tasks of several rounds are not supported: choose those of one question each.")

    def _settings(self, options: Mapping[str, Any]) -> tuple[SamplingSettings, list[str]]:
        """How a task has answers written, and the strings that end them."""
        beams = options.get("num_beams") or 1
        if beams != 1:
            raise ValueError(f'`num_beams` of a task must be 1, got {beams}. Pass gen_kwargs="num_beams=1".')
        ignored = sorted(set(options) - set(_KNOWN))
        if ignored:
            logger.info("Settings of a task that have no effect here: %s", ", ".join(ignored))
        stops = options.get("until") or []
        stops = [stops] if isinstance(stops, str) else list(stops)
        greedy = options.get("do_sample") is False
        settings = SamplingSettings(
            max_new_tokens=int(options.get("max_new_tokens") or _LONGEST),
            temperature=0.0 if greedy else float(options.get("temperature") or 0.0),
            top_p=float(options.get("top_p") or 1.0),
            batch_size=self.batch_size,
        )
        return settings, [stop for stop in stops if stop and stop != _NO_STOP]

    def _row(self, request: Any, times: "Counter[tuple]") -> dict[str, Any]:
        """A request as a row, with what its sampling derives from: other draws where it is asked several times."""
        context, _, doc_to_visual, number, task, split = request.args
        images = _images(doc_to_visual(self.task_dict[task][split][number]), task, number)
        times[task, split, number] += 1
        return {
            "images": images,
            "prompt": [{"role": "user", "content": _content(context, len(images), task, number)}],
            "row_id": f"{number} of {task}",
            "seed": (self.seed, task, split, str(number), times[task, split, number]),
        }


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in a text (`int`), `None` where there is none."""
    return min((text.index(stop) for stop in stops if stop in text), default=None)


def _images(visuals: Any, task: str, number: Any) -> list[Image.Image]:
    """Images of a document, in RGB."""
    found = list(_flat(visuals))
    for visual in found:
        if not isinstance(visual, Image.Image):
            raise ValueError(
                f"Document {shown(number)} of the task {task} shows {shown(visual)}, which is no image: videos and "
                "sound are not supported. Choose tasks with images."
            )
    return [image.convert("RGB") for image in found]


def _flat(visuals: Any) -> Iterator[Any]:
    if isinstance(visuals, list | tuple):
        for visual in visuals:
            yield from _flat(visual)
    elif visuals is not None:
        yield visuals


def _content(context: str, images: int, task: str, number: Any) -> Any:
    """The context as a message: parts where it says where its images are, else a text, which the images precede."""
    texts = context.split(IMAGE_MARKER)
    if len(texts) == 1:
        return context
    if len(texts) - 1 != images:
        raise ValueError(
            f"Document {shown(number)} of the task {task} has {images} images and {len(texts) - 1} `{IMAGE_MARKER}` "
            "in its question: they must be as many."
        )
    parts = []
    for place, text in enumerate(texts):
        if place:
            parts.append({"type": "image"})
        if text.strip():
            parts.append({"type": "text", "text": text.strip("\n")})  # templates break lines around images themselves
    return parts


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
