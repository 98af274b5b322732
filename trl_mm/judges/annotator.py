"""What local and remote annotator models have in common as judges."""

from collections.abc import Sequence

from ..data.protocols import Verdict
from .prompts import Images, Pair, Prompt, Questions, ask_in_style
from .wording import check_style


LEAST_NEW_TOKENS = 16


class Annotator:
    """
    A judge that has a model write which answer is better. A subclass says in `_ask` how the model is asked.

    Args:
        style (`str`): `"both_orders"` or `"paper"`.
        seed (`int`): what the order in `"paper"` derives from, together with the pair.
        max_new_tokens (`int`): longest reply, in tokens.

    Raises:
        ValueError: there is no such style, or replies are too short.
    """

    def __init__(self, style: str, seed: int, max_new_tokens: int):
        check_style(style)
        if max_new_tokens < LEAST_NEW_TOKENS:
            raise ValueError(
                f"`max_new_tokens` must be at least {LEAST_NEW_TOKENS}, to hold a verdict, got {max_new_tokens}."
            )
        self.style, self.seed = style, seed

    def judge(
        self, prompts: Sequence[Prompt], images: Sequence[Images], answer_pairs: Sequence[Pair]
    ) -> list[int | None]:
        """As in [`PairwiseJudge`]."""
        return [verdict.choice for verdict in self.verdicts(prompts, images, answer_pairs)]

    def verdicts(
        self, prompts: Sequence[Prompt], images: Sequence[Images], answer_pairs: Sequence[Pair]
    ) -> list[Verdict]:
        """Verdicts (`list[Verdict]`) with the replies as text; arguments as in [`PairwiseJudge`]."""
        return ask_in_style(self.style, self.seed, self._ask, prompts, images, answer_pairs)

    def _ask(self, questions: Questions) -> Sequence[str | None]:
        """What the model writes to each question (`list[str | None]`), `None` where it cannot be asked this one."""
        raise NotImplementedError
