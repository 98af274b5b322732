"""How alike a rejected answer is to the chosen one: the gate of BDHS."""


def make_similarity(name, device=None):
    """
    Resolve the `similarity` setting.

    Args:
        name (`str` or `Callable`): `"lexical"`, the id or path of a sentence-transformers model, or a function that is
            returned as it is.
        device (`str`, *optional*): where an embedding model runs.

    Returns:
        `Callable[[list[str], list[str]], list[float]]`: similarities of the pairs of texts, 1.0 for equal texts.

    Raises:
        ImportError: a package that the similarity needs is not installed.
        ValueError: the embedding model cannot be loaded.
    """
    if callable(name):
        return name
    return SIMILARITIES[name]() if name in SIMILARITIES else embedding_similarity(name, device)


def lexical_similarity():
    """Share of words that both answers have, in order: normalised indel similarity over words, in [0, 1]."""
    try:
        from rapidfuzz.distance import Indel
    except ImportError as error:
        raise ImportError(
            "`similarity='lexical'` needs rapidfuzz; install it with `pip install trl-mm[bdhs]`."
        ) from error

    def similarity(left, right):
        return [Indel.normalized_similarity(a.split(), b.split()) for a, b in zip(left, right, strict=True)]

    return similarity


def embedding_similarity(name, device=None):
    """Cosine of sentence embeddings, in [-1, 1]."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(
            f"`similarity={name!r}` needs sentence-transformers; install it with `pip install trl-mm[bdhs]`, or set "
            "`similarity='lexical'` (`--similarity lexical`), which needs no model."
        ) from error
    try:
        model = SentenceTransformer(name, device=device)
    except Exception as error:  # what is wrong with a file shows as whatever its parser raises, a SafetensorError say
        raise ValueError(
            f"The embedding model of `similarity={name!r}` cannot be loaded: {str(error).rstrip('. ')}. Pass the path "
            "of a downloaded sentence-transformers model, or set `similarity='lexical'` (`--similarity lexical`), "
            "which needs no model."
        ) from error

    def similarity(left, right):
        embeddings = model.encode([*left, *right], normalize_embeddings=True, show_progress_bar=False)
        return (embeddings[: len(left)] * embeddings[len(left) :]).sum(-1).tolist()

    return similarity


SIMILARITIES = {"lexical": lexical_similarity}
