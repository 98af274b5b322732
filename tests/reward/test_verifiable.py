import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trl_mm import RewardJudge
from trl_mm.data.object_vocabulary import ObjectVocabulary
from trl_mm.eval.chair import chair
from trl_mm.eval.pope_scores import pope_scores
from trl_mm.reward.answer_forms import normalized
from trl_mm.reward.verifiable import (
    VERIFIABLE_REWARDS,
    ExactMatchReward,
    FormatReward,
    LengthReward,
    ObjectsReward,
    YesNoReward,
)


COCO = ObjectVocabulary.from_file()
objects_of_images = st.sets(st.sampled_from(COCO.objects[:12]))
captions = st.lists(st.sampled_from([*COCO.objects[:12], "sky", "puppies", "is on"]), max_size=8).map(" and ".join)
answers = st.one_of(st.text(max_size=30), st.sampled_from(["Yes.", "no", "No dog.", "Maybe", "yes or no"]))


def said(text):
    return [{"role": "assistant", "content": text}]


def rewards(function, texts, **columns):
    """Rewards of answers as messages, which are those of answers as text."""
    prompts = [[{"role": "user", "content": "What is it?"}]] * len(texts)
    given = function(prompts=prompts, completions=[said(text) for text in texts], trainer_state=None, **columns)
    assert function(prompts, list(texts), **columns) == given
    return given


@given(st.lists(st.tuples(answers, st.sampled_from(["yes", "no"])), min_size=1))
def test_yes_no_is_the_accuracy_of_pope(asked):
    texts, labels = zip(*asked, strict=True)
    given_rewards = rewards(YesNoReward(), texts, label=labels)
    assert given_rewards == pope_scores(texts, labels)["correct"]
    as_numbers = [label == "yes" for label in labels]
    assert rewards(YesNoReward("right"), texts, right=as_numbers) == given_rewards
    assert rewards(YesNoReward(), texts, answer=[f" {label.upper()}. " for label in labels]) == given_rewards


def test_yes_no_says_nothing_of_other_questions():
    columns = {"answer": ["yes", None, "a dog", "No.", ""]}
    assert rewards(YesNoReward(), ["Yes"] * 5, **columns) == [1.0, None, None, 0.0, None]
    assert rewards(YesNoReward(), ["Yes"], label=[0], answer=["yes"]) == [0.0]
    with pytest.raises(ValueError, match="Column `label` for the reward `yes_no`: 3 is neither yes nor no"):
        rewards(YesNoReward(), ["Yes"], label=[3])


@given(st.text(max_size=30), st.lists(st.text(max_size=10), max_size=3))
def test_exact_match_accepts_each_answer(answer, others):
    accepted = {normalized(other) for other in others} - {""}
    assert rewards(ExactMatchReward(), [answer], answer=[others]) == [
        float(normalized(answer) in accepted) if accepted else None
    ]
    if normalized(answer):
        assert rewards(ExactMatchReward(), [f" {answer}\n"], answer=[[*others, answer]]) == [1.0]


@pytest.mark.parametrize(
    ("answer", "right", "reward"),
    [
        ("The red circle.", "red circle", 1.0),
        ("A.", "A", 1.0),
        ("An", "A", 0.0),
        ("A", "the", 0.0),
        ("3.5", "35", 0.0),
        ("-5", "5", 0.0),
        ("1,000", "1000", 1.0),
        ("1,2", "12", 0.0),
        ("$5", 5, 1.0),
        ("3", 3.0, 1.0),
        ("ten-year-old", "ten year old", 1.0),
        ("It's", "its", 1.0),
        ("**Paris**", "paris", 1.0),
        ("की", "के", 0.0),
        ("ＣＡＴ", "cat", 1.0),
        ("+", "-", 0.0),
        ("", "dog", 0.0),
        ("dog", "", None),
        ("dog", [], None),
        ("dog", None, None),
        ("dog", ["cat", None, "Dog"], 1.0),
    ],
)
def test_exact_match(answer, right, reward):
    assert rewards(ExactMatchReward(), [answer], answer=[right]) == [reward]


def test_an_accepted_answer_that_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match="Column `answer` for the reward `exact_match`: {'a': 1} is neither text nor"):
        rewards(ExactMatchReward(), ["dog"], answer=[{"a": 1}])


@given(st.lists(st.text(max_size=10)), st.text(max_size=10))
def test_format_matches_whole_answers(thoughts, answer):
    text = f"<think>{''.join(thoughts)}</think> <answer>{answer}</answer>"
    function = FormatReward(r"<think>.*</think>\s*<answer>.*</answer>")
    assert rewards(function, [text, f"\n{text} ", f"{text} more", answer[:5]]) == [1.0, 1.0, 0.0, 0.0]


@given(st.integers(0, 60), st.integers(1, 40), st.floats(0.001, 5))
def test_length_costs_by_the_word(count, words, penalty):
    text = " ".join(["word"] * count)
    assert rewards(LengthReward(words), [text]) == pytest.approx([-max(count - words, 0) / words])
    assert rewards(LengthReward(target=words), [text]) == pytest.approx([-abs(count - words) / words])
    assert rewards(LengthReward(words, penalty=penalty), [text])[0] == pytest.approx(-penalty * max(count - words, 0))


@given(st.lists(st.tuples(captions, objects_of_images), min_size=1, max_size=5))
def test_objects_are_counted_as_by_chair(described):
    texts, truths = zip(*described, strict=True)
    columns = {"objects": [sorted(truth) for truth in truths]}
    f1, borne_out = (rewards(ObjectsReward(metric), texts, **columns) for metric in ("f1", "chair"))
    for text, truth, score, share in zip(texts, truths, f1, borne_out, strict=True):
        scores = chair([text], [truth], COCO)
        assert share == pytest.approx(1 - scores["chair_i"])
        named = {mention.object for mention in COCO.mentions(text)}
        right = len(named & truth)
        precision, recall = right / len(named) if named else 0, right / len(truth) if truth else 0
        harmonic = 2 * precision * recall / (precision + recall) if right else 0
        assert score == pytest.approx(harmonic if named or truth else 1)


def test_objects_go_by_any_of_their_names(tmp_path):
    assert rewards(ObjectsReward(), ["Puppies."], objects=[["dog"]]) == [1.0]
    assert rewards(ObjectsReward(), ["A dog."] * 3, objects=[[" Puppy"], None, []]) == [1.0, None, 0.0]
    (tmp_path / "shapes.txt").write_text("red circle, red disc\n")
    for vocabulary in ({"red circle": ["red disc"]}, tmp_path / "shapes.txt", str(tmp_path / "shapes.txt")):
        function = ObjectsReward(vocabulary=vocabulary, column="shapes", name="shapes")
        assert function.__name__ == "shapes"
        assert rewards(function, ["A red disc."], shapes=[["red circle"]]) == [1.0]
    for name in ("unicorn", "a dog", "dog cat", ""):
        with pytest.raises(ValueError, match=f"Column `objects` for the reward `objects`: the object '{name}' is not"):
            rewards(ObjectsReward(), ["A dog."], objects=[["dog", name]])


@pytest.mark.parametrize("metric", ["f1", "chair"])
def test_an_answer_without_objects(metric):
    assert rewards(ObjectsReward(metric), [""] * 2, objects=[[], ["dog"]]) == [1.0, float(metric == "chair")]


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="`yes_no` needs the column `label` or `answer`. Add it"):
        rewards(YesNoReward(), ["Yes"])
    with pytest.raises(ValueError, match="`objects` needs the column `objects`.*Judges show no columns"):
        RewardJudge(ObjectsReward()).judge(["?"], [[]], [("a", "b")])


def test_rewards_of_the_answer_alone_judge():
    pairs = [("one two three", "one"), ("one", "two")]
    assert RewardJudge(LengthReward(2)).judge(["?"] * 2, [[]] * 2, pairs) == [1, None]
    assert RewardJudge(FormatReward("one")).judge(["?"] * 2, [[]] * 2, pairs) == [1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FormatReward("("), r"`pattern` \('\('\) is no regular expression"),
        (lambda: FormatReward(None), "`pattern`"),
        (lambda: LengthReward(), "Give `limit` or `target`, one of them"),
        (lambda: LengthReward(3, target=4), "one of them, got 3 and 4"),
        (lambda: LengthReward(0), "`limit` must be at least 1 word, got 0"),
        (lambda: LengthReward(target=2.5), "`target` must be at least 1 word, got 2.5"),
        (lambda: LengthReward(3, penalty=0), "`penalty` must be above 0 and finite, got 0"),
        (lambda: ObjectsReward("recall"), "`metric` must be one of f1, chair, got 'recall'"),
        (lambda: ObjectsReward(vocabulary={}), "vocabulary is empty"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_they_can_be_pickled_and_have_names():
    settings = {"format": ["yes"], "length": [3]}
    columns = {"label": ["yes"], "answer": ["yes"], "objects": [["dog"]]}
    for name, kind in VERIFIABLE_REWARDS.items():
        function = kind(*settings.get(name, []))
        again = pickle.loads(pickle.dumps(function))
        assert function.__name__ == again.__name__ == name
        assert rewards(again, ["yes"], **columns) == rewards(function, ["yes"], **columns)
