import pytest
import torch
from support.tiny import tiny_processor
from transformers import AutoModelForSequenceClassification

from trl_mm.reward.scorer import RewardModel
from trl_mm.reward.verifiable import ObjectsReward, YesNoReward
from trl_mm.scripts.reward_functions import check_columns, find_reward, reward_functions


def test_rewards_by_name_with_their_arguments():
    asked = ["yes_no", {"objects": {"metric": "chair"}}, '{"length": {"target": 3}}', "os.path.join"]
    yes_no, objects, length, function = reward_functions(asked)
    assert isinstance(yes_no, YesNoReward) and isinstance(objects, ObjectsReward)
    assert (objects.metric, length.words, function.__name__) == ("chair", 3, "join")
    check_columns([yes_no, objects, length, function], ["objects", "answer"])
    with pytest.raises(ValueError, match="`objects` needs the column `objects`"):
        check_columns([objects], ["answer"])
    assert reward_functions(["someone/reward-model"]) == ["someone/reward-model"]


def test_a_reward_model_by_its_path_sees_the_images(checkpoint, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=1)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    plain, small = reward_functions([str(tmp_path), {str(tmp_path): {"batch_size": 2}}])
    assert isinstance(plain, RewardModel) and (plain.batch_size, small.batch_size) == (8, 2)
    with pytest.raises(ValueError, match="has no trained score"):
        reward_functions([checkpoint])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"objects": {"metrics": "f1"}}, "has no setting 'metrics'. Did you mean `metric`"),
        ({"objects": {"metric": "recall"}}, "objects: `metric` must be one of"),
        ("format", "format cannot be made .*pattern"),
        ("length", "length: Give `limit` or `target`"),
        ({"objects": "chair"}, "must give one reward its arguments"),
        ({"objects": {}, "yes_no": {}}, "must give one reward its arguments"),
        (3, "must name rewards, got 3"),
        ({"someone/reward-model": {"batch_size": 2}}, "is no reward model for images"),
    ],
)
def test_rewards_that_cannot_be_made_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        reward_functions([asked])


def test_rewards_that_are_not_there_are_refused():
    assert find_reward("someone/reward-model") == "someone/reward-model"
    with pytest.raises(ValueError, match="there is no nowhere.reward"):
        find_reward("nowhere.reward")
    with pytest.raises(ValueError, match="there is no json.reward"):
        find_reward("json.reward")
