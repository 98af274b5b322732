"""Rows that share an image, as published preference data has them, beside single pairs.

VLFeedback has the six pairs of four answers to one prompt; RLAIF-V, POVID and LLaVA-Instruct ask several questions of
one image. Here rows of one image follow one another: `group_by_image` brings them together in training.
"""

from itertools import combinations

from .rows import random_pairs


QUESTIONS = [f"Describe the {word} ." for word in ("dog", "cat", "table", "circle")]


def six_pairs(image_sizes, num_rows, lengths, processor, seed=0):
    """As [`random_pairs`], every six rows the pairs of four answers to one prompt."""
    base = random_pairs(image_sizes, 2 * -(-num_rows // 6), lengths, processor, seed)  # two answers each
    answers = [answer for pair in zip(base["chosen"], base["rejected"], strict=True) for answer in pair]
    pairs = [pair for start in range(0, len(answers), 4) for pair in combinations(answers[start : start + 4], 2)]
    chosen, rejected = zip(*pairs[:num_rows], strict=True)
    rows = base.select([2 * (row // 6) for row in range(num_rows)]).remove_columns(["chosen", "rejected"])
    return rows.add_column("chosen", list(chosen)).add_column("rejected", list(rejected))


def four_questions(image_sizes, num_rows, lengths, processor, seed=0):
    """As [`random_pairs`], every four rows with one image and questions of their own."""
    base = random_pairs(image_sizes, num_rows, lengths, processor, seed)
    rows = base.select([row - row % 4 for row in range(num_rows)]).remove_columns(["prompt", "chosen", "rejected"])
    prompts = [[{"role": "user", "content": QUESTIONS[row % 4]}] for row in range(num_rows)]
    rows = rows.add_column("prompt", prompts)
    return rows.add_column("chosen", base["chosen"][:]).add_column("rejected", base["rejected"][:])


def distinct(rows, prompts, answers):
    """
    What has to be computed of rows at least.

    Args:
        rows (`datasets.Dataset`): rows, those of one image after one another.
        prompts (`list[int]`): tokens of each prompt.
        answers (`list[list[int]]`): tokens of the answers of each row.

    Returns:
        `(list[int], list[list[int]])`: tokens of the shortest prompt of each image, and of all distinct answers behind
        its prompts.
    """
    found = {}
    for row, prompt, lengths in zip(rows, prompts, answers, strict=True):
        shown = tuple(image["bytes"] for image in row["images"])
        shortest, behind = found.setdefault(shown, ([], {}))
        shortest.append(prompt)
        for name, length in zip(("chosen", "rejected"), lengths, strict=True):
            behind[row["prompt"][-1]["content"], row[name][-1]["content"]] = length
    return [min(shortest) for shortest, _ in found.values()], [list(behind.values()) for _, behind in found.values()]


# Setting `rows` to what makes them
ROWS = {"pair": random_pairs, "six_pairs": six_pairs, "four_questions": four_questions}
