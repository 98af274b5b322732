"""How processes wait for one another while pairs are made before training."""

import pytest
from support.rows import image_dataset
from support.tiny import TRAINING, tiny_processor, tiny_row
from torch.distributed import HashStore

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer
from trl_mm.data.partners import Partners


def trainer(checkpoint, folder, **settings):
    return MMDPOTrainer(
        checkpoint,
        args=MMDPOConfig(str(folder), max_steps=1, **TRAINING, **settings),
        train_dataset=image_dataset([tiny_row(seed) for seed in range(2)]),
        processing_class=tiny_processor(),
        callbacks=[BDHSDataGenerator(BDHSConfig(similarity="lexical", max_answer_tokens=4), online=False)],
    )


@pytest.fixture
def pair_of(monkeypatch):
    """Function that takes what the other of two processes does while it is waited for: the partners that were made."""
    made = []

    def install(does):
        def partners_of(state, timeout):
            store, clock = HashStore(), [0.0]

            def pause(seconds):
                clock[0] += seconds
                does(store, clock[0])

            made.append(Partners(store, 0, 2, timeout, clock=lambda: clock[0], pause=pause))
            return made[-1]

        monkeypatch.setattr("trl_mm.trainer.pair_generation.partners_of", partners_of)
        return made

    return install


def test_a_slow_partner_is_waited_for_however_long_it_takes(pair_of, checkpoint, tmp_path):
    def does(store, now):
        store.add("alive/1", 1)
        if now > 100_000:
            store.add("at/1", 1)

    made = pair_of(does)
    assert trainer(checkpoint, tmp_path).train().global_step == 1
    (partners,) = made
    assert partners.clock() > 100_000 and not partners.lives


def test_a_dead_partner_ends_training_and_its_pairs_are_kept(pair_of, checkpoint, tmp_path):
    made = pair_of(lambda store, now: None)
    with pytest.raises(
        ConnectionError, match=r"Process 1 has given no sign of life for 50 seconds \(`process_timeout"
    ):
        trainer(checkpoint, tmp_path, process_timeout=50.0).train()
    assert not made[0].lives and list((tmp_path / "pairs").glob("*.parquet"))


def test_a_process_that_fails_gives_no_signs_of_life(pair_of, checkpoint, tmp_path, monkeypatch):
    def fails(*args, **options):
        raise OSError("No space left on device")

    made = pair_of(lambda store, now: None)
    monkeypatch.setattr(BDHSDataGenerator, "make_dataset", fails)
    with pytest.raises(OSError, match="No space left"):
        trainer(checkpoint, tmp_path).train()
    assert not made[0].lives


def test_a_timeout_is_positive(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="`process_timeout` must be positive, got 0"):
        trainer(checkpoint, tmp_path, process_timeout=0)
