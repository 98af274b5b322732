"""Eq. 5 beside TRL's own loss on each kind of pair."""

import pytest
import torch
from peft import LoraConfig
from support.rows import image_dataset, said
from support.tiny import TRAINING, tiny_model, tiny_processor, tiny_row

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer
from trl_mm.bdhs.sampler import as_pair
from trl_mm.data.loading import load_preferences


STORED = ["There is a dog.", "A blue sky. Yes.", "No.", "It is late, and there is a sofa."]
SAMPLED = ["There is a red cat and a blue sofa.", "No.", "There is a green circle.", "Yes."]


def rows(rejected=STORED):
    made = [tiny_row(n, size=(30 + 20 * n, 40), rejected=said(text)) for n, text in enumerate(rejected)]
    made[2]["images"] = []
    return image_dataset(made)


class Fixed(BDHSDataGenerator):
    """Gives each row the answer in `SAMPLED`."""

    def __init__(self, rejected_weight, **options):
        super().__init__(BDHSConfig(similarity="lexical"), rejected_weight=rejected_weight, **options)

    def sampler(self, processor, device=None):
        return self

    def __call__(self, model, rows, step):
        return [as_pair(row, SAMPLED[int(row["row_id"])], attempts=1, similarity=0.5, guided=True) for row in rows]


def curve(folder, dataset, callbacks=(), lora=False, **settings):
    model = tiny_model(scale=4)
    args = MMDPOConfig(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "max_steps": 3,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            **TRAINING,
            **settings,
        }
    )
    trainer = MMDPOTrainer(
        model,
        ref_model=None if lora else tiny_model(scale=4),
        args=args,
        train_dataset=dataset,
        processing_class=tiny_processor(),
        callbacks=list(callbacks),
        peft_config=LoraConfig(target_modules=["q_proj", "v_proj"]) if lora else None,
    )
    trainer.train()
    names = ("loss", "grad_norm", "rewards/margins", "logps/chosen", "logps/rejected")
    return torch.tensor([[entry[name] for name in names] for entry in trainer.state.log_history if "loss" in entry])


def assert_same(curve, expected):
    torch.testing.assert_close(curve, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "settings", [{}, {"lora": True}, {"loss_type": "ipo"}, {"use_weighting": True}], ids=["full", "lora", "ipo", "wpo"]
)
def test_three_branches_give_the_loss_of_two_pairs(tmp_path, settings):
    shared = curve(tmp_path, rows(), [Fixed(0.3)], **settings)
    assert_same(shared, curve(tmp_path, rows(), [Fixed(0.3)], prefix_sharing=False, **settings))


@pytest.mark.parametrize(("weight", "rejected"), [(1.0, STORED), (0.0, SAMPLED)])
def test_with_all_weight_on_one_it_is_trls_loss_on_that_one(tmp_path, weight, rejected):
    both = curve(tmp_path, rows(), [Fixed(weight)])
    assert_same(both[:, :2], curve(tmp_path, rows(rejected))[:, :2])


def test_a_row_without_a_stored_answer_counts_the_sampled_one(tmp_path):
    dataset = rows().remove_columns("rejected")
    assert_same(curve(tmp_path, dataset, [Fixed(0.3)]), curve(tmp_path, rows(SAMPLED)))


def test_what_does_not_go_with_it_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`ld_alpha`"):
        curve(tmp_path, rows(), [Fixed(0.5)], ld_alpha=0.5)


def test_the_real_sampler_adds_its_answer_to_the_stored_one(tmp_path):
    config = BDHSConfig(similarity="lexical", mask_threshold=0.5, max_sentence_tokens=4, max_answer_tokens=8)
    made = curve(tmp_path, rows(), [BDHSDataGenerator(config, rejected_weight=0.5)])
    assert made.shape == (3, 5) and made.isfinite().all()


def test_wrong_weights_are_refused():
    with pytest.raises(ValueError, match="1.5"):
        BDHSDataGenerator(rejected_weight=1.5)


@pytest.mark.parametrize("rejected", [STORED, [*STORED[:2], None, None]], ids=["all", "some"])
def test_pairs_made_before_training_keep_the_stored_answer(tmp_path, rejected):
    """With an answer that does not depend on the policy, when it is made changes nothing."""
    dataset = rows().map(lambda _, n: {"rejected": rejected[n] and said(rejected[n])}, with_indices=True)
    before = Fixed(0.3, online=False)
    assert_same(curve(tmp_path, dataset, [before]), curve(tmp_path, dataset, [Fixed(0.3)]))
    pairs = load_preferences(tmp_path / "pairs")
    assert [said(text or SAMPLED[n]) for n, text in enumerate(rejected)] == pairs["rejected"][:]
    assert [said(text) for text in SAMPLED] == pairs["second_rejected"][:]


def test_other_stored_answers_are_not_taken_for_those_of_finished_pairs(tmp_path):
    curve(tmp_path, rows(), [Fixed(0.3, online=False)])
    with pytest.raises(ValueError, match="made with other settings: `rejected` is"):
        curve(tmp_path, rows(SAMPLED), [Fixed(0.3, online=False)])
