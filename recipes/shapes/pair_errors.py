"""How often stored pairs name what is not in the image, and how often that is what text prefers at this place."""

from world import TYPES, partner

from trl_mm.data.loading import load_preferences


def pair_errors(path, image_folder):
    """
    Errors of both answers of pairs.

    Args:
        path (`Path`): pairs with a column `objects`, the types in the image.
        image_folder (`Path`): folder of their images.

    Returns:
        `dict`: for `chosen` and `rejected`, the share of names that are `"wrong"` and of those that are wrong and
            `"by the prior"`: the partner of the name that stands before it in the same answer, where a loss sees it.
            A guided sentence was sampled after the chosen answer's sentences, but it is not scored after them.
    """
    rows = load_preferences(path, image_folder=image_folder, check_images=False)
    rows = rows.select_columns(["objects", "chosen", "rejected"]).to_list()
    return {answer: _errors(rows, answer) for answer in ("chosen", "rejected")}


def _errors(rows, answer):
    total = wrong = by_prior = 0
    for row in rows:
        names = named_types(row[answer])
        for before, name in zip([None, *names], names, strict=False):
            total += 1
            if name not in row["objects"]:
                wrong += 1
                by_prior += before in TYPES and partner(before) == name
    return {"wrong": wrong / total, "by the prior": by_prior / total}


def named_types(answer):
    """Types that an answer names (`list[str]`), in its order."""
    text = answer[0]["content"] if isinstance(answer[0]["content"], str) else answer[0]["content"][0]["text"]
    return [sentence.removeprefix("There is a ") for sentence in text.rstrip(".").split(". ")]
