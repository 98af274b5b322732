import pytest

from trl_mm.eval.amber_scores import Answered, Described, answer_scores, describe


ASSOCIATION = {"sky": ["cloud"], "grass": ["ground", "lawn"], "dog": ["puppy"], "cat": []}
SETTINGS = (["sky", "grass"], ["dog"], ASSOCIATION)


@pytest.mark.parametrize(
    ("nouns", "found"),
    [
        ([], ([], 0, 0)),
        (["sky", "Sky", "car"], ([0], 1, 0)),  # of another spelling or no word of AMBER's: neither here nor there
        (["cloud", "sky", "lawn"], ([0, 0, 0], 2, 0)),  # two words for one object
        (["dog", "puppy", "cat"], ([1, 1, 1], 0, 1)),  # what was expected counts as hallucinated, too
    ],
)
def test_counted_by_hand(nouns, found):
    assert describe(nouns, *SETTINGS) == Described(*found)


def test_safe_words_are_counted_and_never_wrong():
    assert describe(["dog", "sky"], *SETTINGS, {"dog", "sky"}) == Described([0, 0], 0, 0)


def test_similar_nouns_match_the_first_that_is_similar():
    def similar(noun, other):
        return noun == "cat" and other in ("puppy", "ground")

    assert describe(["cat", "dog"], *SETTINGS, similar=similar) == Described([0, 1], 1, 1)
    # Expected and in the image at once: marked, and not hallucinated
    assert describe(["cat"], ["grass"], ["dog"], ASSOCIATION, similar=similar) == Described([0], 1, 1)


def test_words_for_objects_come_before_the_objects():
    # Similar to "lawn", which stands for grass, and to "sky": the grass it is, which is named already
    found = describe(["grass", "cat"], *SETTINGS, similar=lambda noun, other: other in ("lawn", "sky"))
    assert found == Described([0, 0], 1, 0)


def test_no_is_the_positive_class_and_all_else_is_wrong():
    relation = [("relation", "no", "no"), ("relation", "no", None), ("discriminative-relation", "yes", "no")]
    scores = answer_scores([Answered(*answer) for answer in relation])
    # 1 of 3 right, 1 of 2 no right, 1 of 2 gold no said: with the 0.001 and 0.0001 of the script
    assert scores == {"Relation": {"Accuracy": 33.3, "Precision": 50.0, "Recall": 50.0, "F1": 50.0}}
    answers = [Answered("discriminative-hallucination", "no", said) for said in ["no"] * 696 + ["yes"] * 304]
    # 0.001 there, where the others have 0.0001: 82.1
    assert answer_scores(answers)["Exsitence"] == {"Accuracy": 69.6, "Precision": 100.0, "Recall": 69.6, "F1": 82.0}
    state = answer_scores([Answered("discriminative-attribute-state", "no", "no")])
    assert state["State"]["Accuracy"] == 99.9
    assert state["Attribute"]["Accuracy"] == 99.7  # 1 / 1.003
    assert "Descriminative Task" not in state
