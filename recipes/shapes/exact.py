"""An exact judge for the Shapes world, as a reward function: it knows what is in each image."""

from trl_mm.data.rows import message_text
from trl_mm.eval.objects import ObjectVocabulary

from .world import TYPES


VOCABULARY = ObjectVocabulary({name: [] for name in TYPES})


def exact_reward(completions, objects, **columns):
    """
    Fewer named objects that are not there is better; among answers with equally many, more that are there.

    Args:
        completions (`list[list[dict]]`): sampled answers.
        objects (`list[list[str]]`): what is in the image of each, a column of the rows.

    Returns:
        `list[float]`
    """
    rewards = []
    for completion, truth in zip(completions, objects, strict=True):
        named = {mention.object for mention in VOCABULARY.mentions(message_text(completion[-1]))}
        rewards.append(len(named & set(truth)) - 100.0 * len(named - set(truth)))
    return rewards
