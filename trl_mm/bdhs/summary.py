"""What a finished folder of pairs holds, as text for the terminal, and what to change if acceptance is off."""

from array import array
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from ..data.manifest import read_manifest
from ..data.pair_statistics import answer_text, count_attempts, count_words, histogram, percentiles
from .metrics import COLUMNS, was_accepted
from .modes import MODES


# Of the paper, with `mask_threshold` 0.99: 74 % at the first attempt, more than 90 % after four
LEAST_AT_FIRST, MOST_AT_FIRST, MOST_FAILED = 0.6, 0.95, 0.15
FEWEST_ROWS = 50  # of fewer, shares say little
BAR = 30  # characters of the longest bar


def summary(folder):
    """
    Describe the pairs of a complete folder, whatever runs and processes made them.

    Args:
        folder (`str` or `Path`): folder of [`make_pairs`].

    Returns:
        `str`: several lines: acceptance by attempt, lengths in words, similarities, and a hint if there is one.
            "differ" is the share of all rows with an answer below the similarity threshold after so many attempts.
    """
    manifest = read_manifest(folder)
    config, total = manifest["settings"]["bdhs"], manifest["num_rows"]
    lines = [f"{total:,} pairs from {manifest['num_source_rows']:,} rows"]
    if not total:
        return lines[0]
    # Numbers in arrays: 20 bytes per row, so that millions of rows fit
    similarities, words = array("d"), (array("l"), array("l"))
    unguided = same = first = failed = 0
    differing = Counter()  # rows by attempt
    for row in read_columns(folder, manifest, ["chosen", "rejected", *COLUMNS]):
        texts = answer_text(row["chosen"]), answer_text(row["rejected"])
        for lengths, text in zip(words, texts, strict=True):
            lengths.append(count_words(text))
        same += texts[0] == texts[1]
        unguided += not row["bdhs_guided"]
        similarities.append(row["bdhs_similarity"])
        differing[row["bdhs_attempts"]] += row["bdhs_similarity"] < config["similarity_threshold"]
        accepted = was_accepted(
            row["bdhs_similarity"], row["bdhs_guided"], config["guided"], config["similarity_threshold"]
        )
        first, failed = first + (accepted and row["bdhs_attempts"] == 1), failed + (not accepted)
    counts = count_attempts(read_columns(folder, manifest, ["bdhs_attempts"]))

    lines += ["", f"{'attempt':<16}{'made':>9}{'kept':>9}{'of made':>9}{'of all':>9}{'differ':>9}"]
    differ = 0
    for count in counts:
        # Figure 10 of the paper: its last point counts the answers that were kept unchecked, too
        differ += differing[count.attempt]
        shares = f"{count.kept / count.made:>9.1%}{count.kept / total:>9.1%}{differ / total:>9.1%}"
        lines.append(f"{count.attempt:<16g}{count.made:>9,}{count.kept:>9,}{shares}")
    lines += ["", f"{'words':<16}{'5 %':>9}{'median':>9}{'95 %':>9}"]
    for name, lengths in zip(("chosen", "rejected"), words, strict=True):
        lines.append(f"{name:<16}" + "".join(f"{value:>9.0f}" for value in percentiles(lengths)))
    lines += ["", "similarity of rejected to chosen"]
    bars = histogram(similarities)
    longest = max(number for _, number in bars)
    lines += [f"{name:<16}{number:>9,}  {'#' * -(-BAR * number // longest)}".rstrip() for name, number in bars]
    lines += ["", f"unguided {unguided / total:.1%}, rejected identical to chosen {same / total:.1%}"]
    advice = hint(config, total, first, failed)
    return "\n".join([*lines, "", advice] if advice else lines)


def hint(config, rows, first, failed):
    """
    What to change if fewer or more answers are accepted than in the paper.

    Args:
        config (`dict`): settings of [`BDHSConfig`].
        rows (`int`): number of rows.
        first (`int`): those of which the first answer was accepted.
        failed (`int`): those of which no answer was accepted.

    Returns:
        `str` or `None`: a sentence or two, if there is something to change.
    """
    mode = MODES[config["mode"]]
    if rows < FEWEST_ROWS or mode.teacher_forced:
        return None
    accepted = f"{first / rows:.0%} of the answers were accepted at the first attempt (74 % in the paper)"
    last = f", and {failed / rows:.0%} of the rows had none accepted" if failed else ""
    name = mode.strength
    if first / rows < LEAST_AT_FIRST or (config["max_attempts"] > 4 and failed / rows > MOST_FAILED):
        cure = f"Raise `{name}` (now {config[name]}), so that the model sees less of the image"
        if config[name] >= mode.strongest:
            cure = f"The image is hidden completely: raise `temperature` (now {config['temperature']})"
        return f"Hint: {accepted}{last}: rejected answers are much like the chosen ones. {cure}."
    # Word overlap is below the threshold as soon as one word differs, and full answers hardly ever say the same
    comparable = config["guided"] and config["similarity"] != "lexical"
    if comparable and first / rows > MOST_AT_FIRST and config[name] > 0:
        return (
            f"Hint: {accepted}. Look at some with `trl-mm report`: if they have little to do with the question, lower "
            f"`{name}` (now {config[name]}), so that the model sees more of the image."
        )
    return None


def read_columns(folder, manifest, names):
    """Iterate over the rows (`dict`) of all shards, a few at a time, with these columns alone."""
    for shard, num_rows in manifest["shards"].items():
        if num_rows:
            with pq.ParquetFile(Path(folder) / shard) as file:
                for batch in file.iter_batches(64, columns=names):
                    yield from batch.to_pylist()
