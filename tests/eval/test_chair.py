import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.published import chair_synonyms, published

from trl_mm.eval import word_forms
from trl_mm.eval.chair import ChairBenchmark, chair, read_partners
from trl_mm.eval.image_names import image_finder
from trl_mm.eval.intervals import bootstrap_ratio, ratio
from trl_mm.eval.objects import ObjectVocabulary


OBJECTS = ("cat", "dog", "hot dog", "red circle", "green square")
VOCABULARY = ObjectVocabulary({object_: [] for object_ in OBJECTS} | {"dog": ["puppy"]})

truths = st.sets(st.sampled_from(OBJECTS))
rows = st.lists(st.tuples(st.lists(st.sampled_from(OBJECTS), max_size=6), truths), min_size=1, max_size=8)


def caption(objects):
    return " ".join(f"There is a {object_}." for object_ in objects)


def scores(rows, **options):
    return chair([caption(objects) for objects, _ in rows], [truth for _, truth in rows], VOCABULARY, **options)


def test_counted_by_hand():
    result = chair(
        [
            "A dog and its puppy beside a cat.",  # 3 mentions, of which the cat is not there
            "A hot dog and a cat, and a cat.",  # 3 mentions, the two cats are not there
            "A red circle.",  # 1 mention, there; the green square is not named
            "Nothing to see.",
        ],
        [{"dog"}, {"hot dog", "dog"}, {"red circle", "green square"}, {"cat"}],
        VOCABULARY,
    )
    assert result == {
        "chair_i": 3 / 7,
        "chair_s": 2 / 4,
        "recall": 3 / 6,
        "mentions_per_caption": 7 / 4,
        "counts": {
            "mentions": [3, 3, 1, 0],
            "hallucinated": [1, 2, 0, 0],
            "any_hallucinated": [1, 1, 0, 0],
            "annotated": [1, 2, 2, 1],
            "named": [1, 1, 1, 0],
        },
    }


def test_prior_share_counts_partners_of_what_is_there():
    result = chair(
        [
            "A red circle and a green square.",  # the square is hallucinated, the partner of the circle
            "A green square and a dog.",  # the square is hallucinated, but there is no circle; so is the dog
            "A red circle and a green square.",  # the partner, but really there
        ],
        [{"red circle"}, {"cat"}, {"red circle", "green square"}],
        VOCABULARY,
        partners={"red circle": "green square"},
    )
    assert result["prior_share"] == 1 / 6
    assert result["counts"]["prior"] == [1, 0, 0]
    assert result["chair_i"] == 3 / 6


def test_no_mentions():
    result = chair(["Hello."], [{"dog"}], VOCABULARY, partners={})
    figures = {name: value for name, value in result.items() if name != "counts"}
    assert figures == dict.fromkeys(["chair_i", "chair_s", "recall", "mentions_per_caption", "prior_share"], 0.0)


def test_no_annotated_objects():
    result = chair(["A dog."], [set()], VOCABULARY)
    assert (result["chair_i"], result["recall"]) == (1.0, 0.0)


@given(st.lists(truths.filter(bool), min_size=1, max_size=8))
def test_naming_exactly_the_truth(truths):
    result = scores([(sorted(truth), truth) for truth in truths], partners={"cat": "dog", "dog": "cat"})
    assert (result["chair_i"], result["chair_s"], result["recall"], result["prior_share"]) == (0, 0, 1, 0)


@given(rows, st.randoms())
def test_order_changes_nothing(rows, random):
    shuffled = [(random.sample(objects, len(objects)), truth) for objects, truth in random.sample(rows, len(rows))]
    one, other = scores(rows), scores(shuffled)
    del one["counts"], other["counts"]
    assert one == other


@given(rows)
def test_a_hallucination_more_raises_chair(rows):
    objects, _ = rows[0]
    before, after = scores([(objects, set()), *rows[1:]]), scores([([*objects, "cat"], set()), *rows[1:]])
    assert after["chair_i"] >= before["chair_i"]
    assert sum(after["counts"]["hallucinated"]) == sum(before["counts"]["hallucinated"]) + 1
    assert after["recall"] == before["recall"]


@pytest.mark.parametrize(
    ("captions", "truths", "partners", "message"),
    [
        ([], [], None, "got 0 and 0"),
        (["A dog."], [], None, "got 1 and 0"),
        (["A dog."], [{"Dog", "gray circle"}], None, "does not have: Dog, gray circle"),
        (["A dog."], [{"dog"}], {"dog": "mouse"}, "does not have: mouse"),
        (["A dog."], [{"dog"}], {"puppy": "dog"}, "does not have: puppy"),
    ],
)
def test_bad_arguments(captions, truths, partners, message):
    with pytest.raises(ValueError, match=message):
        chair(captions, truths, VOCABULARY, partners=partners)


# The benchmark


@pytest.mark.parametrize(
    ("text", "error"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("[" * 100_000, "is no JSON"), ("[]", "which object")],
)
def test_bad_partners_are_named(tmp_path, text, error):
    if text is not None:
        (tmp_path / "partners.json").write_text(text)
    with pytest.raises((ValueError, OSError), match=rf"`partners` \(.*partners.json\) .*{error}"):
        read_partners(str(tmp_path / "partners.json"))


@pytest.fixture
def vocabulary(tmp_path):
    (tmp_path / "objects.txt").write_text("".join(f"{object_}\n" for object_ in OBJECTS))
    return str(tmp_path / "objects.txt")


def test_every_image_is_described_and_scored_by_its_objects(vocabulary, tmp_path):
    (tmp_path / "partners.json").write_text('{"dog": "cat"}')
    settings = {"vocabulary": vocabulary, "partners": str(tmp_path / "partners.json"), "caption_prompt": "What?"}
    benchmark = ChairBenchmark(**settings)
    truths = {"1": {"dog"}, "2": {"hot dog"}}
    rows = benchmark.questions(truths, seed=0)
    assert rows == [{"image": image, "question": "What?", "truth": truth} for image, truth in truths.items()]
    (tmp_path / "partners.json").unlink()  # read with the questions, before a model is
    result = benchmark.score(rows, ["A dog and a cat.", "A hot dog."], seed=0)
    parts = benchmark.metric_parts(result)
    assert {name: ratio(*part) for name, part in parts.items()} == {
        "chair_i": 1 / 3, "chair_s": 1 / 2, "recall": 1.0, "prior_share": 1 / 3
    }  # fmt: skip
    assert result["intervals"] == {name: bootstrap_ratio(*part, seed=0) for name, part in parts.items()}
    assert benchmark.lines(result)[0].startswith("2 captions, 1.5 objects named in each: chair_i 33.3% [")


def test_objects_of_reference_captions_join_the_truth(vocabulary, tmp_path):
    references = {
        "images": [{"id": 1, "file_name": "1"}],
        "annotations": [{"image_id": 1, "caption": "A cat."}],
    }
    (tmp_path / "captions.json").write_text(json.dumps(references))
    benchmark = ChairBenchmark(vocabulary=vocabulary, captions=str(tmp_path / "captions.json"))
    assert benchmark.questions({"1": {"dog"}}, seed=0)[0]["truth"] == {"cat", "dog"}


def test_what_the_vocabulary_does_not_know_is_refused_before_anything_is_asked(vocabulary):
    with pytest.raises(ValueError, match="does not have: unicorn"):
        ChairBenchmark(vocabulary=vocabulary).questions({"1": {"unicorn"}}, seed=0)


# As published


@pytest.fixture
def synonyms(tmp_path):
    pytest.importorskip("nltk")
    pytest.importorskip("textblob")
    (tmp_path / "synonyms.txt").write_text("dog, puppy\ncat\nhot dog\n")
    return str(tmp_path / "synonyms.txt")


def test_truths_and_captions_are_read_as_published(synonyms, tmp_path):
    (tmp_path / "truths.json").write_text('{"1": ["dog"]}')
    references = {
        "images": [{"id": 1, "file_name": "000001.jpg"}],
        "annotations": [{"image_id": 1, "caption": "Cats."}],
    }
    (tmp_path / "captions.json").write_text(json.dumps(references))
    files = {"chair_truths": str(tmp_path / "truths.json"), "captions": str(tmp_path / "captions.json")}
    benchmark = ChairBenchmark(chair_synonyms=synonyms, **files)
    rows = benchmark.questions(None, seed=0)
    assert [(row["image"], row["truth"]) for row in rows] == [("1", {"dog", "cat"})]
    result = benchmark.score(rows, ["Hot dogs and two puppies."], seed=0)
    assert benchmark.published_scores(result) == {"CHAIRs": 1, "CHAIRi": 0.5, "Recall": 0.5}
    assert benchmark.row_scores(result) == [0.5]
    assert "singular forms" in benchmark.lines(result)[0]
    assert benchmark.marks(rows[0], "A hot dog, a dog") == [(2, 9, "bad"), (13, 16, "good")]
    (tmp_path / "answers.json").write_text('{"imgToEval": {"1": {"caption": "A puppy."}}}')
    assert benchmark.read_answers(tmp_path / "answers.json")[0][0]["truth"] == {"dog", "cat"}


def test_our_reading_marks_and_scores_rows(vocabulary):
    benchmark = ChairBenchmark(vocabulary=vocabulary)
    row = {"image": "1", "truth": {"dog"}}
    assert benchmark.marks(row, "A Dog, a cat") == [(2, 5, "good"), (9, 12, "bad")]
    result = benchmark.score([row] * 2, ["A dog, a cat", "Nothing."], seed=0)
    assert benchmark.row_scores(result) == [0.5, None]
    assert "not the published measure" in benchmark.lines(result)[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"chair_reading": "wordnet"}, "needs the authors' synonyms.txt as `chair_synonyms`"),
        ({"chair_reading": "lemma"}, "`chair_reading` must be one of singularize, wordnet, ours, got 'lemma'"),
    ],
)
def test_bad_readings_are_named(settings, said):
    with pytest.raises(ValueError, match=said):
        ChairBenchmark(**settings)


def test_what_a_reading_lacks_is_found_before_anything_is_asked(synonyms, monkeypatch):
    def missing(text):
        raise OSError("NLTK's data are missing")

    monkeypatch.setattr(word_forms, "word_tokenize", missing)
    with pytest.raises(OSError, match="NLTK's data are missing"):
        ChairBenchmark(chair_synonyms=synonyms, chair_reading="wordnet").questions({"1": {"dog"}}, seed=0)


def test_answers_need_truths(tmp_path):
    with pytest.raises(ValueError, match="`truths` is missing"):
        ChairBenchmark(chair_reading="ours").read_answers(tmp_path / "answers.json")


def test_published_truths_of_photographs_are_rebuilt():
    pytest.importorskip("textblob")
    photos = published("photos_coco_cc")
    files = {"chair_truths": f"{photos}/instances_subset.json", "captions": f"{photos}/captions_subset.json"}
    rows = ChairBenchmark(chair_synonyms=str(chair_synonyms()), **files).questions(None, seed=0)
    golden = json.loads(published("golden/chair/ground_truth_objects_of_photos_coco_cc.json").read_text())
    assert len(rows) == len(golden) == 51
    find = image_finder(golden)
    assert {find(row["image"]): sorted(row["truth"]) for row in rows} == golden
