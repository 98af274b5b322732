import difflib
import json

import pytest
from support.published import chair_synonyms, published

from trl_mm.eval import word_forms
from trl_mm.eval.objects import COCO_SYNONYMS
from trl_mm.eval.published_chair import PublishedVocabulary, read_synonyms


pytest.importorskip("nltk")
pytest.importorskip("textblob")

NAMES = (
    "person,man,baby,people/train/airplane,jet/motorcycle, motor bike,motor cycle/bird/toilet/chair,seat/tie,bow/bus/"
    "wine glass/sports ball,ball/baseball bat/knife"
)
SYNONYMS = [line.split(",") for line in NAMES.split("/")]
TAGS = {"sports": "VBZ", "bats": "NNS"}
MODELS = ("lim_r1-llava1.5-7b", "opera_llava-1.5.greedy")


@pytest.fixture
def vocabulary():
    return PublishedVocabulary(SYNONYMS)


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("Men, a MAN and people.", ["person", "person", "person"]),
        ("A baby bird beside a baby.", ["bird", "person"]),
        ("Two adult birds and a passenger train.", ["bird", "train"]),
        ("A train track, and trains.", ["train"]),  # merged, and a track is none
        ("A motor cycle and a motor bike.", ["motorcycle"]),  # the name of the other begins with a space
        ("Two buses, but a bus.", ["bus"]),  # the singular of the latter is "bu"
        ("A wine glass and wine glasses.", ["wine glass", "wine glass"]),
        ("The seat. A toilet seat.", ["toilet"]),
        ("A seat.", ["chair"]),
        ("A bow tie, a bow.", ["tie", "tie"]),
        ("A sports ball.", ["sports ball"]),  # by its second word: the singular of the first is "sport"
        ("baseball\nbats", ["baseball bat"]),
        ("Knives.", ["knife"]),
        ("", []),
    ],
)
def test_quirks_of_the_published_script(vocabulary, caption, objects):
    assert [mention.object for mention in vocabulary.mentions(caption)] == objects


def test_words_are_where_they_stand(vocabulary):
    text = 'İ "An Adult\nBird." Two wine GLASSES!'
    places = [text[found.start : found.end] for found in vocabulary.mentions(text)]
    assert places == ["Adult\nBird", "wine GLASSES"]
    assert [(found.word, found.object) for found in vocabulary.named(text)] == [
        ("bird", "bird"),
        ("wine glass", "wine glass"),
    ]


def test_length_counts_marks_and_merged_pairs_once(vocabulary):
    assert vocabulary.length("A baby bird, a dog.") == 6


def test_the_other_reading_takes_lemmas(monkeypatch):
    monkeypatch.setattr(word_forms, "word_tokenize", lambda text: text.split())
    monkeypatch.setattr(
        word_forms, "tagged", lambda tokens: [(token, "NNS" if token == "bats" else "CD") for token in tokens]
    )
    monkeypatch.setattr(word_forms, "lemma", lambda word, part: word.rstrip("s") if part == "n" else word)
    found = PublishedVocabulary(SYNONYMS, "wordnet").named("a baseball bats sports ball")
    assert [named.object for named in found] == ["baseball bat", "sports ball"]


def test_lists_of_synonyms(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text(
        "person, man \n\nmotorcycle,  motor bike\n# ours\n! train track\ncake, man\n", encoding="utf-8-sig"
    )
    assert read_synonyms(path) == [["person", "man"], ["motorcycle", " motor bike"], ["cake", "man"]]
    vocabulary = PublishedVocabulary(read_synonyms(path))
    assert vocabulary.objects == ("person", "motorcycle", "cake")
    assert [found.object for found in vocabulary.mentions("a man")] == ["cake"]


def test_bad_lists_are_named(tmp_path):
    path = tmp_path / "synonyms.txt"
    with pytest.raises(OSError, match=r"`synonyms` \(.*cannot be read"):
        read_synonyms(path)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_synonyms(path)
    path.write_text("\n# none\n")
    with pytest.raises(ValueError, match="names no object"):
        read_synonyms(path)
    with pytest.raises(ValueError, match="must be one of singularize, wordnet, got 'ours'"):
        PublishedVocabulary(SYNONYMS, "ours")
    with pytest.raises(ValueError, match="is empty"):
        PublishedVocabulary([])


# What the published script found in 1,000 captions


def golden(model, reading):
    captions = map(json.loads, published(f"golden/chair/captions_{model}.jsonl").read_text().splitlines())
    found = map(json.loads, published(f"golden/chair/per_caption_{model}_{reading}.jsonl").read_text().splitlines())
    return list(zip(captions, found, strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("reading", ["singularize", "wordnet"])
def test_all_mentions_are_those_of_the_published_script(model, reading):
    if reading == "wordnet":
        need_wordnet()
    vocabulary = PublishedVocabulary(read_synonyms(chair_synonyms()), reading)
    truths = json.loads(published("golden/chair/ground_truth_objects.json").read_text())
    for caption, found in golden(model, reading):
        assert caption["image_id"] == found["image_id"]
        named = vocabulary.named(caption["caption"])
        truth = truths[str(caption["image_id"])]
        assert [word.object for word in named] == found["mentions"], caption
        assert [[word.word, word.object] for word in named if word.object not in truth] == found["hallucinated"]


def test_our_list_finds_nearly_all_of_them():
    vocabulary, agreeing, mentions = PublishedVocabulary(read_synonyms(COCO_SYNONYMS)), 0, 0
    for caption, found in golden(MODELS[0], "singularize") + golden(MODELS[1], "singularize"):
        named = [word.object for word in vocabulary.named(caption["caption"])]
        matcher = difflib.SequenceMatcher(None, named, found["mentions"], autojunk=False)
        agreeing += sum(block.size for block in matcher.get_matching_blocks())
        mentions += len(found["mentions"])
    assert agreeing / mentions == pytest.approx(0.995, abs=0.001)


def need_wordnet():
    """Skips the test where NLTK's data are not."""
    try:
        word_forms.wordnet_forms("Two dogs.")
    except OSError as error:
        pytest.skip(str(error))
