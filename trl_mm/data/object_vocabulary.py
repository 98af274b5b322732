"""What counts as an object and how a text names it. CHAIR, POPE and the reward for objects are built on it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


COCO_SYNONYMS = Path(__file__).with_name("coco_synonyms.txt")


class Mention(NamedTuple):
    """
    One naming of an object in a text: `text[start:end]` names `object`.

    Args:
        object (`str`):
            Canonical name of the object.
        start (`int`):
            Index of the first character.
        end (`int`):
            Index behind the last character.
    """

    object: str
    start: int
    end: int


class ObjectVocabulary:
    """
    Finds the objects that a text names. The longest phrase wins ("hot dog" is not a dog), only whole words count
    ("carpet" is not a car), case does not matter, and a space in a phrase also stands for a hyphen.

    Args:
        synonyms (`Mapping[str, Iterable[str]]`):
            From the canonical name of an object to its other names. Regular plurals are added.
        silent (`Iterable[str]`, *optional*, defaults to `()`):
            Phrases that hold the name of an object without naming it, such as "train tracks".

    Raises:
        ValueError: there is no object, a name is empty, or a name stands for two objects.

    Examples:
    ```python
    >>> vocabulary = ObjectVocabulary({"dog": ["puppy"], "hot dog": []})
    >>> vocabulary.mentions("Two puppies and a hot-dog.")
    [Mention(object='dog', start=4, end=11), Mention(object='hot dog', start=18, end=25)]
    ```
    """

    def __init__(self, synonyms: Mapping[str, Iterable[str]], silent: Iterable[str] = ()):
        self.objects = tuple(synonyms)
        if not self.objects:
            raise ValueError("The object vocabulary is empty: it needs at least one object name.")
        meaning: dict[str, str | None] = {}  # phrase in lower case: object, or None where the phrase is silent
        for object_ in self.objects:
            for name in [object_, *synonyms[object_]]:
                if not _words(name):
                    raise ValueError(f"A name of the object {object_!r} is empty: remove it.")
                if meaning.setdefault(_key(name), object_) != object_:
                    raise ValueError(
                        f"{name!r} names both {meaning[_key(name)]!r} and {object_!r}: keep it for one of them."
                    )
        for phrase in silent:
            if not _words(phrase):
                raise ValueError("A silent phrase is empty: remove it.")
            if meaning.setdefault(_key(phrase), None) is not None:
                raise ValueError(f"{phrase!r} is listed as naming an object and as naming none: keep one of the two.")
        for name, named in list(meaning.items()):
            for plural in _plurals(name):
                meaning.setdefault(plural, named)

        self._meaning = meaning
        phrases = sorted(meaning, key=len, reverse=True)
        alternatives = "|".join(r"[\s-]+".join(map(re.escape, phrase.split(" "))) for phrase in phrases)
        # A hyphen joins words ("man-made" names no man), a dash of two hyphens does not. Without groups and
        # re.IGNORECASE the search is 50 times faster, as `re` then skips alternatives by their first letter.
        self._pattern = re.compile(rf"(?<!\w)(?<!\w-)(?:{alternatives})(?!-?\w)")

    @classmethod
    def from_file(cls, path: str | Path | None = None) -> "ObjectVocabulary":
        """
        Reads a vocabulary: one line per object, its canonical name and then its other names, separated by commas. A
        line that starts with `!` lists silent phrases, one that starts with `#` is a comment.

        Args:
            path (`str` or `Path`, *optional*):
                Text file in UTF-8. `None` takes the 80 objects of COCO.

        Returns:
            [`ObjectVocabulary`]

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no such table; the message names the file.
        """
        path = Path(path) if path is not None else COCO_SYNONYMS
        synonyms: dict[str, list[str]] = {}
        silent: list[str] = []
        try:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                names = [name.strip() for name in line.lstrip("! ").split(",")]
                if not line.strip() or line.startswith("#"):
                    continue
                if line.startswith("!"):
                    silent += names
                elif names[0] in synonyms:
                    raise ValueError(f"line {number} lists the object {names[0]!r} again: merge the two lines.")
                else:
                    synonyms[names[0]] = names[1:]
            return cls(synonyms, silent)
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no object vocabulary at {path}: give the path of one.") from None
        except ValueError as error:
            raise ValueError(f"{path} is not an object vocabulary: {error}") from error

    def mentions(self, text: str) -> list[Mention]:
        """
        Lists the objects that a text names, in the order of the text, each as often as it is named.

        Args:
            text (`str`):
                A caption or an answer.

        Returns:
            `list[Mention]`
        """
        text = text.replace("İ", "I").lower()  # lower() makes two letters of this one, which would shift the rest
        found = ((self._meaning[_key(match[0])], match.span()) for match in self._pattern.finditer(text))
        return [Mention(object_, *span) for object_, span in found if object_ is not None]


def _words(phrase: str) -> list[str]:
    return re.findall(r"[^\s-]+", phrase.lower())


def _key(phrase: str) -> str:
    return " ".join(_words(phrase))


def _plurals(name: str) -> Iterator[str]:
    # Too many forms do no harm, as nobody writes "boxs"; irregular plurals are listed in the vocabulary.
    yield name + "s"
    if re.search(r"(?:s|x|z|o|ch|sh)$", name):
        yield name + "es"
    if re.search(r"[^aeiou]y$", name):
        yield name[:-1] + "ies"
    if name.endswith("man"):
        yield name[:-2] + "en"
