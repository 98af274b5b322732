"""
How an annotator model is asked about two answers.

In the style `"both_orders"` it is asked twice, each answer once in front, may call it a tie, and is to begin with its
verdict in a fixed form. In the style `"paper"` it is asked once, in a random order, to choose one of the two, and
answers freely: what the paper does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from ..data.protocols import Verdict
from ..data.seeds import derived_seed
from .replies import TIE, read_reply
from .reply_cache import reply_key
from .wording import QUESTION, WORDING


Prompt = Sequence[Mapping[str, Any]]  # messages
Images = Sequence[Image.Image]
Pair = tuple[str, str]  # two answers
Questions = Sequence[tuple[str, Images]]  # texts, and the images that are shown before them
Ask = Callable[[Questions], Sequence[str | None]]

SAME = Verdict(None, "tie", "The two answers are the same.")


def question(prompt: Prompt, num_images: int, first: str, second: str, style: str = "both_orders") -> str:
    """
    The text that asks which response is better.

    Args:
        prompt (`list[dict]`): messages before the answers.
        num_images (`int`): number of images, which are shown before this text.
        first (`str`): what is shown as Response 1.
        second (`str`): what is shown as Response 2.
        style (`str`, *optional*, defaults to `"both_orders"`): whose wording it has, `"both_orders"` or `"paper"`.

    Returns:
        `str`
    """
    with_images, text_only, ask = WORDING[style]
    return QUESTION.format(
        instructions=with_images if num_images else text_only,
        ask=ask,
        request=_request(prompt, num_images),
        first=first.strip(),
        second=second.strip(),
    )


def ask_in_style(
    style: str,
    seed: int,
    ask: Ask,
    prompts: Sequence[Prompt],
    images: Sequence[Images],
    answer_pairs: Sequence[Pair],
) -> list[Verdict]:
    """
    Have an annotator compare the answers of each pair.

    Args:
        style (`str`): `"both_orders"` ([`ask_in_both_orders`]) or `"paper"` ([`ask_once`]).
        seed (`int`): what the order in `"paper"` derives from; nothing is random in `"both_orders"`.
        ask, prompts, images, answer_pairs: as in [`ask_in_both_orders`].

    Returns:
        `list[Verdict]`: one for each pair.
    """
    if style == "paper":
        return ask_once(ask, prompts, images, answer_pairs, seed)
    return ask_in_both_orders(ask, prompts, images, answer_pairs)


def ask_in_both_orders(
    ask: Ask,
    prompts: Sequence[Prompt],
    images: Sequence[Images],
    answer_pairs: Sequence[Pair],
) -> list[Verdict]:
    """
    Have an annotator compare the answers of each pair twice, each answer once in front.

    Args:
        ask (`Callable`): from `list[tuple[str, list]]`, questions with their images, to `list[str | None]`: what the
            annotator writes, `None` where it cannot be asked this question.
        prompts, images, answer_pairs: as in [`PairwiseJudge`].

    Returns:
        `list[Verdict]`: one for each pair. Answers that are the same are a tie without asking.
    """
    asked = _different(answer_pairs)
    questions = [
        (question(prompts[index], len(images[index]), *answers), images[index])
        for index in asked
        for answers in (answer_pairs[index], answer_pairs[index][::-1])
    ]
    replies = ask(questions) if questions else []
    verdicts = [SAME] * len(answer_pairs)
    for index, shown, turned in zip(asked, replies[::2], replies[1::2], strict=True):
        verdicts[index] = combined(shown, turned)
    return verdicts


def ask_once(
    ask: Ask,
    prompts: Sequence[Prompt],
    images: Sequence[Images],
    answer_pairs: Sequence[Pair],
    seed: int = 0,
) -> list[Verdict]:
    """
    Have an annotator choose the better answer of each pair, each pair shown once.

    Which answer is in front is a coin of the seed and the question, images included: the same whenever and wherever
    the pair is asked about, whichever of its answers is named first.

    Args:
        ask, prompts, images, answer_pairs: as in [`ask_in_both_orders`].
        seed (`int`, *optional*, defaults to `0`): what the order derives from.

    Returns:
        `list[Verdict]`: one for each pair. Answers that are the same are a tie without asking.
    """
    asked = _different(answer_pairs)
    turns = [_is_turned(seed, prompts[index], images[index], answer_pairs[index]) for index in asked]
    questions = []
    for index, turned in zip(asked, turns, strict=True):
        first, second = answer_pairs[index][::-1] if turned else answer_pairs[index]
        questions.append((question(prompts[index], len(images[index]), first, second, "paper"), images[index]))
    replies = ask(questions) if questions else []
    verdicts = [SAME] * len(answer_pairs)
    for index, turned, reply in zip(asked, turns, replies, strict=True):
        verdicts[index] = single(reply, turned)
    return verdicts


def combined(shown: str | None, turned: str | None) -> Verdict:
    """
    One verdict from what is said in both orders.

    Args:
        shown (`str` or `None`): reply to the answers in their order.
        turned (`str` or `None`): reply to the answers in the other order.

    Returns:
        [`Verdict`]: without a readable reply to each order `"invalid"`, `"tie"` if both say so, `"inconsistent"` if
        they differ.
    """
    alone = _reading(shown)
    first, second = alone.outcome, _reading(turned).outcome
    places = (*alone.places, *_reading(turned).places)
    text = f"In this order: {(shown or '').strip()}\nIn the other order: {(turned or '').strip()}"
    if "invalid" in (first, second):
        return Verdict(None, "invalid", text, places, alone)
    if first == second == "tie":
        return Verdict(None, "tie", text, places, alone)
    if "tie" in (first, second) or places[0] == places[1]:  # the same place, so not the same answer
        return Verdict(None, "inconsistent", text, places, alone)
    return Verdict(alone.choice, "clear", text, places, alone)


def single(reply: str | None, turned: bool) -> Verdict:
    """
    The verdict of a reply to one order, where a tie is no answer.

    Args:
        reply (`str` or `None`): what is said.
        turned (`bool`): whether the second answer was shown as Response 1.

    Returns:
        [`Verdict`]: `"clear"` or `"invalid"`.
    """
    read = _reading(reply)
    text = f"In {'the other' if turned else 'this'} order: {(reply or '').strip()}"
    if read.choice is None:
        return Verdict(None, "invalid", text, read.places)
    return Verdict(1 - read.choice if turned else read.choice, "clear", text, read.places)


def _reading(reply: str | None) -> Verdict:
    """[`Verdict`] on the two responses as they were shown."""
    text = (reply or "").strip()
    place = read_reply(text)
    if isinstance(place, int):
        return Verdict(place, "clear", text, (place,))
    return Verdict(None, "tie" if place == TIE else "invalid", text, (None,))


def _different(answer_pairs: Sequence[Pair]) -> list[int]:
    """Indices of the pairs that need to be asked about."""
    return [index for index, (first, second) in enumerate(answer_pairs) if first.strip() != second.strip()]


def _is_turned(seed: int, prompt: Prompt, images: Images, pair: Pair) -> bool:
    """Whether the second answer is in front, by a coin that does not know which answer of the two comes first."""
    first, second = (answer.strip() for answer in pair)
    asked = {"request": _request(prompt, len(images)), "answers": sorted((first, second))}
    coin = derived_seed(seed, "which answer is shown first", reply_key(asked, images)) % 2
    return (first > second) != bool(coin)


def _request(prompt: Prompt, num_images: int) -> str:
    """Text of the messages, by role if there are several, with a note where each of several images stands."""
    numbers = iter(range(1, num_images + 1))
    texts = []
    for message in prompt:
        content = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        shown = []
        for part in parts:
            if part["type"] == "text":
                shown.append(part.get("text") or "")
            elif num_images > 1:
                shown.append(f"[image {next(numbers)}]")
        texts.append(" ".join(text.strip() for text in shown if text.strip()))
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"{message['role'].capitalize()}: {text}" for message, text in zip(prompt, texts, strict=True))
