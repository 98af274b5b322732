"""How a converter says that a row is no preference pair, though nothing is wrong with the file."""


class LeftOut(Exception):
    """
    Raised by a converter for a row that it leaves out: a tie, an empty answer, a rating that is no number, a video.
    Such rows are counted by their reason and listed in `bad_rows.jsonl`.

    Args:
        reason (`str`): why, in few words and the same for all rows of the kind: rows are counted by it.
    """
