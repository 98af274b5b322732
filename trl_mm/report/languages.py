"""Languages of texts, by the package py3langid, whose model (4.6 MB) comes with it."""

SHORT = "too short"
LEAST_BYTES = 40  # of letters in UTF-8: shorter English texts of published data are often taken for another language
MOST_CHARACTERS = 500  # that are looked at


def language(text: str) -> str:
    """
    Language of a text.

    Args:
        text (`str`): the text.

    Returns:
        `str`: its code in ISO 639, such as `"en"`; `"too short"` where it cannot be told.

    Raises:
        ImportError: py3langid is missing.
    """
    try:
        import py3langid
    except ImportError as error:
        raise ImportError(
            "Telling languages apart needs py3langid; install it with `pip install trl-mm[report]`."
        ) from error

    text = text[:MOST_CHARACTERS]
    letters = "".join(filter(str.isalpha, text)).encode(errors="replace")
    if len(letters) < LEAST_BYTES:
        return SHORT
    return py3langid.classify(text.encode(errors="replace"))[0]
