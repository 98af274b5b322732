"""Answers from vLLM, which TRL starts and keeps up to date with the policy; here the images go with the prompts.

What is unusual in it: vLLM expands a prompt on its own, so its token ids are kept and compared with those that the
loss reads.
"""

import copy

from accelerate.utils import broadcast_object_list, gather_object
from trl import prepare_multimodal_messages

from ...data.seeds import derived_seed
from ...generation.completer import image_token_ids
from ...generation.vllm import token_prompt
from ...tokens.chat import render
from ...tokens.chat_template import bos_ids, messages_as_read


def vllm_answers(trainer, rows, seeds):
    """
    Sample two answers to each row. Every process has to call it, rows or not: TRL gathers weights and prompts.

    Args:
        trainer ([`MMOnlineDPOTrainer`]): trainer with `use_vllm`.
        rows (`list[dict]`): rows with `prompt` and PIL `images`.
        seeds (`list[tuple]`): what the samples of each row derive from.

    Returns:
        `tuple`: answers (`list[list[list[int]]]`), as token ids up to and with the EOS token, and the token ids of the
        prompts as vLLM read them (`list[list[int]]`).
    """
    images = image_token_ids(trainer.model.config, trainer.processing_class)
    banned = [trainer.processing_class.tokenizer.convert_ids_to_tokens(token) for token in images]
    prompts, answers = ENGINES[trainer.vllm_mode](trainer, rows, seeds, banned)
    longest, ends = trainer.generation_config.max_tokens, trainer.eos_token_ids

    def cut(ids):
        ids = list(ids)
        place = next((place for place, token in enumerate(ids) if token in images), len(ids))
        ids = ids[:place]  # text that spells a banned token in another way
        stopped = len(ids) < longest and (not ids or ids[-1] not in ends)
        return [*ids, ends[0]] if stopped else ids

    return [[cut(ids) for ids in pair] for pair in answers], [list(ids) for ids in prompts]


def check_prompts(batch, prompts, image_tokens=()):
    """
    Compare prompts as vLLM read them with those that the loss reads.

    Args:
        batch (`dict`): batch of the collator; the first B rows of `input_ids` and `completion_mask` are looked at.
        prompts (`list`): token ids of the prompt of each of the B rows, or `None` for rows that vLLM did not answer.
        image_tokens (`Sequence[int]`, *optional*): tokens that stand for images. A server may report one for each
            image where it read as many as the image has.

    Raises:
        ValueError: they differ.
    """
    for number, ids in enumerate(prompts):
        if ids is None:
            continue
        length = int(batch["completion_mask"][number].argmax())
        read = batch["input_ids"][number, :length].tolist()
        once = [
            token
            for token, before in zip(read, [None, *read], strict=False)
            if token != before or token not in image_tokens
        ]
        if ids not in (read, once):
            raise ValueError(
                f"vLLM read a prompt of {len(ids)} tokens where the processor makes {len(read)} of it (row {number} "
                "of the batch), so its answers are to another question. Start vLLM with the model, the processor "
                "and the chat template of this training, or set `use_vllm=False`."
            )


def _colocated(trainer, rows, seeds, banned):
    sleeps = trainer.args.vllm_enable_sleep_mode
    if sleeps:
        trainer.llm.wake_up(tags=["weights"])
    _update(trainer)
    if sleeps:
        trainer.llm.wake_up(tags=["kv_cache"])
    prompts, settings = [], []
    for row, seed in zip(rows, seeds, strict=True):
        text = render({"images": row["images"], "prompt": row["prompt"]}, trainer.processing_class).prompt
        own = copy.deepcopy(trainer.generation_config)
        own.seed, own.bad_words = derived_seed(*seed) % 2**63, banned
        prompts.append(token_prompt(trainer.processing_class, text, row["images"]))
        settings.append(own)
    outputs = trainer.llm.generate(prompts, settings, use_tqdm=False) if prompts else []
    if sleeps:
        trainer.llm.sleep(level=2)
    return (
        [output.prompt_token_ids for output in outputs],
        [[sample.token_ids for sample in output.outputs] for output in outputs],
    )


def _from_server(trainer, rows, seeds, banned):
    _update(trainer)
    messages = [
        messages_as_read(
            prepare_multimodal_messages(row["prompt"], images=row["images"]),
            trainer.processing_class,
            trainer.args.system_prompt,
        )
        for row in rows
    ]
    of_processes = gather_object([messages])
    answered = [None, None]
    if trainer.accelerator.is_main_process and any(of_processes):
        args, config = trainer.args, trainer.generation_config
        output = trainer.vllm_client.chat(
            messages=[message for part in of_processes for message in part],
            n=2,
            repetition_penalty=args.repetition_penalty,
            temperature=args.temperature,
            top_p=args.top_p,
            top_k=args.top_k or -1,
            min_p=args.min_p or 0.0,
            max_tokens=config.max_tokens,
            structured_outputs_regex=trainer.structured_outputs_regex,
            generation_kwargs={
                "seed": derived_seed("vllm", args.seed, trainer.state.global_step) % 2**63,
                "bad_words": banned,
                "add_special_tokens": bool(bos_ids(trainer.processing_class)),
                **(args.generation_kwargs or {}),
            },
        )
        answered = [output["prompt_ids"], output["completion_ids"]]
    prompts, completions = broadcast_object_list(answered, from_process=0)
    rank = trainer.accelerator.process_index
    start = sum(map(len, of_processes[:rank]))
    own = range(start, start + len(rows))
    return [prompts[row] for row in own], [completions[2 * row : 2 * row + 2] for row in own]


def _update(trainer):
    if trainer.state.global_step != trainer._last_loaded_step:
        trainer._move_model_to_vllm()
        trainer._last_loaded_step = trainer.state.global_step


ENGINES = {"colocate": _colocated, "server": _from_server}
