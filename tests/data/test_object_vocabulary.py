import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm.data.object_vocabulary import COCO_SYNONYMS, ObjectVocabulary


COCO = ObjectVocabulary.from_file()

# As the annotations of COCO 2014 and 2017 spell them: any other spelling would make an object that is never found.
COCO_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli,
carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush"""


def named(text, vocabulary=COCO):
    return [mention.object for mention in vocabulary.mentions(text)]


def test_coco_objects_are_coco_s():
    assert COCO.objects == tuple(COCO_NAMES.replace("\n", " ").split(", "))


def test_every_name_in_the_coco_file_means_its_object():
    lines = COCO_SYNONYMS.read_text(encoding="utf-8").splitlines()
    for line in lines:
        names = line.lstrip("! ").split(", ")
        for name in names if line and line[0] != "#" else []:
            assert named(f"I see {name}.") == ([] if line.startswith("!") else [names[0]]), name


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        ("Two dogs chase a cat.", ["dog", "cat"]),
        ("A woman and her children", ["person", "person"]),
        ("A hot dog", ["hot dog"]),
        ("Hot-dogs, hot  dogs and a\nhot\ndog", ["hot dog"] * 3),
        ("It is hot. Dog days.", ["dog"]),
        ("A teddy bear", ["teddy bear"]),
        ("A bear beside teddy bears", ["bear", "teddy bear"]),
        ("He slides into home plate", []),
        ("Train tracks beside a train", ["train"]),
        ("A baby elephant and a baby", ["elephant", "person"]),
        ("A passenger train", ["train"]),
        ("The toilet seat", ["toilet"]),
        ("Wine glasses", ["wine glass"]),
        ("Three sandwiches, two puppies, knives, buses and mice", ["sandwich", "dog", "knife", "bus", "mouse"]),
        ("FIREMEN at a Fire Hydrant", ["person", "fire hydrant"]),
        ("A carpet, a cargo, scattered boarding", []),
        ("A man-made, dog-like thing", []),
        ("A dog--or a cat", ["dog", "cat"]),
        ("The dog's tail", ["dog"]),
        ("A catcher's mitt", ["baseball glove"]),
        ("cat_dog cat2", []),
        ("", []),
    ],
)
def test_mentions(text, objects):
    assert named(text) == objects


def test_positions():
    text = "In İİİ, two Puppies eat a hot-dog."  # the lower case of İ has two characters
    assert [text[mention.start : mention.end] for mention in COCO.mentions(text)] == ["Puppies", "hot-dog"]


def test_a_phrase_that_must_not_fire():
    vocabulary = ObjectVocabulary({"plate": [], "catcher": []}, silent=["home plate"])
    assert named("The catcher at home plate, a plate and home plates", vocabulary) == ["catcher", "plate"]


@given(st.text(alphabet=st.one_of(st.sampled_from("İıſK-'_ "), st.characters())), st.sampled_from(COCO.objects))
def test_any_text(noise, object_):
    text = f"{noise} the {object_}! {noise}"
    mentions = COCO.mentions(text)
    start = len(noise) + 5
    assert (object_, start, start + len(object_)) in mentions
    ends = [0, *(mention.end for mention in mentions)]
    assert all(end <= mention.start < mention.end for end, mention in zip(ends, mentions, strict=False))


def test_own_file(tmp_path):
    path = tmp_path / "shapes.txt"
    path.write_text(
        "# colours and shapes\nred circle, red disc\n\ngreen square\n! green square root\n", encoding="utf-8"
    )
    vocabulary = ObjectVocabulary.from_file(path)
    assert vocabulary.objects == ("red circle", "green square")
    text = "There are two red circles and a red disc. There is a red square, a green square root, a green square."
    assert named(text, vocabulary) == ["red circle", "red circle", "green square"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("# nothing\n! hot dog\n", "empty"),
        ("dog, puppy\ncat, puppy\n", "'puppy' names both 'dog' and 'cat'"),
        ("dog, hot dog\nHot-Dog\n", "'Hot-Dog' names both 'dog' and 'Hot-Dog'"),
        ("dog\ncat\ndog, puppy\n", "line 3 lists the object 'dog' again"),
        ("dog, , puppy\n", "A name of the object 'dog' is empty"),
        ("dog\n! hot dog,\n", "silent phrase is empty"),
        ("dog, puppy\n! Puppy\n", "'Puppy' is listed as naming an object and as naming none"),
    ],
)
def test_bad_file(tmp_path, content, message):
    path = tmp_path / "objects.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        ObjectVocabulary.from_file(path)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no object vocabulary at .*gone.txt"):
        ObjectVocabulary.from_file(tmp_path / "gone.txt")
