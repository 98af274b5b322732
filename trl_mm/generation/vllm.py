"""Completions that vLLM writes. Nothing here imports it: an engine is given.

What is unusual in it: image tokens that are hidden are left out of prompt embeddings, which vLLM takes in place of
token ids; and what ends in the middle, with a sentence, is written in rounds of a few tokens, since the engine can
stop at strings but cannot ask where a sentence ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..data.seeds import derived_seed
from ..tokens.chat import text_ids
from ..tokens.chat_template import bos_ids
from .decoding import SamplingSettings
from .inputs import as_embeddings
from .prompts import Request


ROUND = 16  # tokens: what is written in vain after an end is shorter
NEVER = -100.0  # logit bias; vLLM takes none lower


@dataclass
class VLLMModel:
    """
    A model that vLLM runs, for [`Completer`] in place of one of transformers.

    Args:
        engine (`vllm.LLM`): the engine. With an `encoder` it was made with `enable_prompt_embeds=True`.
        sampling_params (`type`): `vllm.SamplingParams`.
        config ([`~transformers.PreTrainedConfig`]): configuration of the model.
        eos_token_ids (`list[int]`): tokens that end an answer.
        encoder ([`~transformers.PreTrainedModel`], *optional*): the model as transformers has it, of which only the
            embeddings and the vision part are used: with it, prompts go to vLLM as embeddings, hidden image tokens
            left out. Without it, they go as token ids and images.
    """

    engine: Any
    sampling_params: Any
    config: PreTrainedConfig
    eos_token_ids: list[int]
    encoder: Any = None

    def prompt(
        self, processor: Any, request: Request, continued: Sequence[int], positions: str = "collapsed"
    ) -> dict[str, Any]:
        """
        A prompt as the engine takes it.

        Args:
            processor ([`~transformers.ProcessorMixin`]): processor of the model.
            request ([`Request`]): what to complete.
            continued (`list[int]`): token ids that follow the prompt.
            positions (`str`, *optional*, defaults to `"collapsed"`): what hidden tokens do to the positions of the
                others.

        Returns:
            `dict`: `prompt_embeds` of shape `(num_tokens, hidden_size)`; or `prompt_token_ids`, one placeholder for
            each image, and the images.

        Raises:
            ValueError: tokens are hidden in a way that the engine cannot read.
        """
        if self.encoder is not None:
            if positions != "collapsed":
                raise ValueError(
                    f"`positions='{positions}'` does not work with vLLM, which counts the positions of a prompt "
                    "itself. Set `positions='collapsed'`, or `use_vllm=False`."
                )
            with torch.no_grad():
                inputs = as_embeddings(self.encoder, processor, [request], [list(continued)], positions)
            return {"prompt_embeds": inputs["inputs_embeds"][0].cpu()}  # (T, H)
        if request.visible is not None:
            raise ValueError("Hidden image tokens go to vLLM as embeddings: `VLLMModel` needs an `encoder`.")
        return token_prompt(processor, request.prompt.text, request.prompt.row["images"], continued)

    def write(
        self,
        prompts: Sequence[dict[str, Any]],
        seeds: Sequence[tuple],
        settings: SamplingSettings,
        banned: Sequence[int],
        ended: Callable[[int, list[int]], int | None] | None = None,
    ) -> list[list[int]]:
        """
        Complete prompts.

        Args:
            prompts (`list[dict]`): as [`VLLMModel.prompt`] makes them.
            seeds (`list[tuple]`): what the sample of each derives from.
            settings ([`SamplingSettings`]): how tokens are chosen, and how many.
            banned (`list[int]`): tokens that are never chosen.
            ended (`Callable`, *optional*): given the number of a prompt and all of its new tokens, after how many of
                them it ends, or `None` to go on. Without it a completion ends with an EOS token.

        Returns:
            `list[list[int]]`: new tokens of each, up to and with an EOS token.
        """
        written: list[list[int]] = [[] for _ in prompts]
        waiting, number = list(range(len(prompts))), 0
        while waiting:
            left = {index: settings.max_new_tokens - len(written[index]) for index in waiting}
            rounds = [
                self.sampling_params(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    seed=derived_seed(*seeds[index], *([number] if number else [])) % 2**63,
                    max_tokens=min(left[index], ROUND) if ended else left[index],
                    min_tokens=0 if number else 1,  # as `Completer` has it
                    logit_bias=dict.fromkeys(banned, NEVER),
                    stop_token_ids=list(self.eos_token_ids),
                    detokenize=False,
                )
                for index in waiting
            ]
            asked = [self._followed(prompts[index], written[index]) for index in waiting]
            outputs = self.engine.generate(asked, rounds, use_tqdm=False)
            going = []
            for index, output in zip(waiting, outputs, strict=True):
                new = list(output.outputs[0].token_ids)
                written[index] += new
                end = ended(index, written[index]) if ended else None
                if end is not None:
                    written[index] = written[index][:end]
                elif new and new[-1] not in self.eos_token_ids and len(written[index]) < settings.max_new_tokens:
                    going.append(index)
            waiting, number = going if ended else [], number + 1
        return written

    def _followed(self, prompt, ids):
        """A prompt and what was written of its completion already."""
        if not ids:
            return prompt
        if "prompt_embeds" not in prompt:
            return {**prompt, "prompt_token_ids": [*prompt["prompt_token_ids"], *ids]}
        embed = self.encoder.get_input_embeddings()
        with torch.no_grad():
            new = embed(torch.tensor(ids, device=self.encoder.device)).cpu()
        return {**prompt, "prompt_embeds": torch.cat([prompt["prompt_embeds"], new])}


def token_prompt(processor: Any, text: str, images: Sequence[Any], continued: Sequence[int] = ()) -> dict[str, Any]:
    """
    A rendered prompt as vLLM takes it, which expands the placeholders itself.

    Args:
        processor ([`~transformers.ProcessorMixin`]): processor of the model.
        text (`str`): rendered prompt.
        images (`list` of `PIL.Image.Image`): its images.
        continued (`list[int]`, *optional*): token ids that follow it.

    Returns:
        `dict`: `prompt_token_ids`, and `multi_modal_data` if there are images.
    """
    # Ids, since vLLM would put another BOS token in front of text
    prompt: dict[str, Any] = {"prompt_token_ids": [*bos_ids(processor), *text_ids(processor, text), *continued]}
    if images:
        prompt["multi_modal_data"] = {"image": images}
    return prompt
