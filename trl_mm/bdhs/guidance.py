"""What guides a rejected answer: sentences of the chosen one, cut at random (arXiv 2407.02477, Section 4.2)."""

import re
import unicodedata


YES_NO = re.compile(r"(yes|no)\b", re.IGNORECASE)  # the word boundary keeps "Not" and "North" as they are
SWAPPED = {"yes": "no", "no": "yes"}
# Scripts without spaces between words: a cut is possible in front of every character
UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
LIST_NUMBER = re.compile(r"\s*\(?\d{1,3}[.)]\s*")  # "2. " of "2. A dog." is no sentence
UNENDED = re.compile(r"[\w ,]*")  # spares the splitter most of the texts that are still being written


def split_sentences(text, language="en"):
    """
    Split a text into sentences, white space included: joined, they give back the text to the byte.

    Args:
        text (`str`): an answer.
        language (`str`, *optional*, defaults to `"en"`): language code.

    Returns:
        `list[str]`: sentences, each with the white space that follows it. White space in front of the first sentence
        belongs to it.
    """
    sentences = []
    for span in _boundaries(text, language):
        piece = text[span["start_index"] : span["end_index"]]
        if sentences and (not piece.strip() or not sentences[-1].strip() or LIST_NUMBER.fullmatch(sentences[-1])):
            sentences[-1] += piece
        else:
            sentences.append(piece)
    return sentences


def find_sentence_end(text, language="en"):
    """
    Position right behind the first sentence of a text that is still being written, or `None`.

    A full stop ends a sentence only when something follows it: "3." may become "3.5", "Dr." may become "Dr. Smith".
    """
    if UNENDED.fullmatch(text):
        return None
    sentences = split_sentences(text, language)
    return len(sentences[0].rstrip()) if len(sentences) > 1 and sentences[1].strip() else None


def swap_yes_no(sentence, probability, rng):
    """Swap a leading yes or no with the given probability, its case kept; other sentences return as they are."""
    match = YES_NO.match(sentence.lstrip())
    if not match or rng.random() >= probability:
        return sentence
    word = match.group()
    swapped = SWAPPED[word.lower()]
    swapped = swapped.upper() if word.isupper() else swapped.capitalize() if word[0].isupper() else swapped
    start = len(sentence) - len(sentence.lstrip())
    return sentence[:start] + swapped + sentence[start + len(word) :]


def swapped_word(sentence, swapped):
    """Length of the word that [`swap_yes_no`] has put at the beginning of a sentence (`int`), 0 if it has not."""
    return 0 if swapped == sentence else YES_NO.match(swapped.lstrip()).end()


def cut(sentence, rng, before_first_word=True, keep=0):
    """
    First part of a sentence, cut between two words at a uniformly random place.

    Args:
        sentence (`str`): sentence; white space around it is ignored.
        rng (`random.Random`): source of the place.
        before_first_word (`bool`, *optional*, defaults to `True`): whether the first part may be empty. A sentence of
            one word is always cut before it.
        keep (`int`, *optional*, defaults to `0`): characters at the beginning that the first part has in any case.

    Returns:
        `str`: first part without white space at its end.
    """
    sentence = sentence.strip()
    places = sorted(
        {match.start() for match in re.finditer(r"\s+", sentence)}
        | {match.start() for match in UNSPACED.finditer(sentence) if match.start() > 0 and not _is_mark(match.group())}
    )
    if keep:
        places = [place for place in places if place >= keep] or [keep]
    elif before_first_word or not places:
        places.insert(0, 0)
    return sentence[: rng.choice(places)].rstrip()


def _is_mark(character):
    """Whether a character belongs to the one before, as vowels and tones do in Thai."""
    return unicodedata.category(character).startswith("M")


def _boundaries(text, language):
    try:
        from sentencex import get_sentence_boundaries
    except ImportError as error:
        raise ImportError(
            "Splitting answers into sentences needs `sentencex`; install it with `pip install trl-mm[bdhs]`."
        ) from error
    return get_sentence_boundaries(language, text)
