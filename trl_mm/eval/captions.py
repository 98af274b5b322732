"""Objects that reference captions name: they join the truth of CHAIR."""

from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from ..data.object_vocabulary import ObjectVocabulary
from .coco_json import CocoFile
from .image_names import image_finder
from .published_chair import PublishedVocabulary


def load_captions(path: str | Path) -> dict[str, list[str]]:
    """
    Reads the reference captions of each image, from a JSON file in the style of COCO's `captions_val2014.json`:
    `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`.

    Args:
        path (`str` or `Path`):
            The JSON file.

    Returns:
        `dict[str, list[str]]`:
            From the file name of each image, in the order of the file, to its captions.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format; the message names the file, the entry and the cure.
    """
    coco = CocoFile(path, "captions")
    files = coco.files()
    captions: dict[str, list[str]] = {file: [] for file in files.values()}
    for index, (image, caption) in enumerate(coco.entries("annotations", "image_id", "caption")):
        coco.check_id(index, "image_id", image, files, "images")
        captions[files[image]].append(str(caption))
    return captions


def add_objects_of_captions(
    truths: Mapping[str, Set[str]],
    captions: Mapping[str, Iterable[str]],
    vocabulary: ObjectVocabulary | PublishedVocabulary,
) -> dict[str, set[str]]:
    """
    Joins the objects that the reference captions of an image name to those of its instances, as in the truth of the
    published CHAIR: annotators name what the instances leave out. With a [`PublishedVocabulary`] it is the published
    truth.

    Args:
        truths (`Mapping[str, Set[str]]`):
            From image to the objects in it, as [`load_annotations`] gives it.
        captions (`Mapping[str, Iterable[str]]`):
            From image to its captions, as [`load_captions`] gives it; COCO's images also by id.
        vocabulary ([`ObjectVocabulary`] or [`PublishedVocabulary`]):
            Which words name which object.

    Returns:
        `dict[str, set[str]]`: for each image of `truths` the objects of both.

    Raises:
        ValueError: an image has no captions.
    """
    find = image_finder(captions)
    of_image = {image: captions.get(find(image) or "", ()) for image in truths}
    missing = [image for image, texts in of_image.items() if not texts]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(truths)} images have no reference captions, such as {missing[0]}: give the "
            "captions file of the same images, with the same `file_name`s."
        )
    return {
        image: {*objects, *(mention.object for text in of_image[image] for mention in vocabulary.mentions(text))}
        for image, objects in truths.items()
    }
