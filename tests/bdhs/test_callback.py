import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from support.rows import image_dataset
from support.tiny import tiny_model, tiny_processor, tiny_row
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trl_mm import BDHSConfig, BDHSDataGenerator, BDHSSampler
from trl_mm.bdhs.sampler import as_pair
from trl_mm.data.images import resolve_image
from trl_mm.data.loading import load_preferences
from trl_mm.data.protocols import PairGenerator


PROCESSOR = tiny_processor()
MODEL = tiny_model(scale=5)
FAST = {"similarity": "lexical", "max_sentence_tokens": 4, "max_answer_tokens": 6}


def generator(online=True, save_to=None, **settings):
    return BDHSDataGenerator(BDHSConfig(**{**FAST, **settings}), online=online, save_to=save_to)


def hand_made(outcomes, **settings):
    """A generator whose sampler gives rows these outcomes: (attempts, similarity, guided)."""
    made, asked = generator(similarity_threshold=0.9, **settings), []

    def sampler(model, rows, step):
        asked.append((model, rows, step))
        return [as_pair(row, "A dog.", *outcome) for row, outcome in zip(rows, outcomes, strict=True)]

    made._sampler = sampler
    return made, asked


def dataset(count=5):
    return image_dataset([tiny_row(seed) for seed in range(count)])


def test_it_is_a_callback_and_a_pair_generator():
    for online in (True, False):
        made = BDHSDataGenerator(online=online)
        assert isinstance(made, PairGenerator) and isinstance(made, TrainerCallback)
        assert made.online is online and made.needs == ("images", "prompt", "chosen")
        assert made.config == BDHSConfig()
    assert not isinstance(TrainerCallback(), PairGenerator)


def test_metrics_are_those_of_the_pairs():
    made, asked = hand_made([(1, 0.2, True), (2, 0.5, True), (1, 0.8, True), (5, 0.9, False)])
    rows = [{**tiny_row(seed), "images": [resolve_image(tiny_row(seed)["images"][0])]} for seed in range(4)]
    pairs, metrics = made.sample(MODEL, PROCESSOR, rows, 7)
    assert [pair["row_id"] for pair in pairs] == ["0", "1", "2", "3"]
    assert metrics.pop("bdhs/answers_per_second") > 0
    assert metrics == pytest.approx(
        {
            "bdhs/attempts": 9 / 4,
            "bdhs/acceptance_rate": 3 / 4,
            "bdhs/similarity": 2.4 / 4,
            "bdhs/unguided_rate": 1 / 4,
        }
    )
    ((model, given, step),) = asked
    assert model is MODEL and step == 7
    for row, decoded, pair in zip(rows, given, pairs, strict=True):
        assert "bytes" in row["images"][0], "rows are not modified"
        assert decoded["images"][0].size == (40, 30) and pair["images"] == decoded["images"]


@pytest.mark.parametrize(
    ("settings", "outcomes", "accepted"),
    [
        # The gate lets pass what is below 0.9; the last attempt without guidance is kept unchecked
        ({}, [(1, 0.2, True), (5, 0.2, False), (5, 0.95, False)], 1 / 3),
        ({"max_attempts": 1}, [(1, 0.2, True), (1, 0.95, True), (1, 0.1, True)], 2 / 3),
        ({"guided": False}, [(1, 0.2, False), (5, 0.2, False), (5, 0.95, False)], 2 / 3),
        ({"mode": "noise", "guided": False}, [(1, 0.95, False)] * 3, 0),
        ({"mode": "povid"}, [(1, 0.2, True), (1, 0.95, True), (1, 1.0, True)], None),
    ],
)
def test_accepted_are_rows_that_passed_the_gate(settings, outcomes, accepted):
    made, _ = hand_made(outcomes, **settings)
    _, metrics = made.sample(MODEL, PROCESSOR, [tiny_row(seed) for seed in range(3)], 0)
    assert metrics.get("bdhs/acceptance_rate") == (None if accepted is None else pytest.approx(accepted))
    assert metrics["bdhs/unguided_rate"] == pytest.approx(sum(not guided for *_, guided in outcomes) / 3)


def test_pairs_of_a_step_are_those_of_the_sampler():
    rows = [tiny_row(seed) for seed in range(3)]
    pairs, _ = generator().sample(MODEL, PROCESSOR, rows, 3)
    assert pairs == BDHSSampler(BDHSConfig(**FAST), PROCESSOR)(MODEL, rows, 3)
    assert pairs != generator().sample(MODEL, PROCESSOR, rows, 4)[0]


def test_the_sampler_is_made_once():
    made = generator()
    assert made.sampler(PROCESSOR) is made.sampler(PROCESSOR, "cpu")


def made_dataset(made, folder, rows=None):
    return made.make_dataset(MODEL, PROCESSOR, rows or dataset(), folder, 0, 1)


def test_pairs_made_before_training_load_as_they_were_made(tmp_path):
    made = generator(online=False)
    folder = made_dataset(made, tmp_path / "pairs")
    assert folder == tmp_path / "pairs"
    pairs = load_preferences(folder)
    expected = BDHSSampler(BDHSConfig(**FAST), PROCESSOR)(MODEL, [tiny_row(seed) for seed in range(5)])
    assert pairs["rejected"][:] == [pair["rejected"] for pair in expected]
    assert pairs[0]["images"][0].tobytes() == tiny_row(0)["images"][0].tobytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["settings"]["bdhs"]["max_sentence_tokens"] == 4 and "weights" in manifest["settings"]


def test_save_to_is_honoured(tmp_path):
    own = tmp_path / "mine"
    assert made_dataset(generator(online=False, save_to=str(own)), tmp_path / "pairs") == str(own)
    assert (own / "manifest.json").exists() and not (tmp_path / "pairs").exists()


def test_a_killed_run_is_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr("trl_mm.bdhs.callback.make_pairs", small_shards)
    made_dataset(generator(online=False), tmp_path / "undisturbed")

    killed = generator(online=False)
    sampler, calls = killed.sampler(PROCESSOR), []

    class Dying:
        config = sampler.config

        def __call__(self, model, rows, step):
            if len(calls) == 2:
                raise KeyboardInterrupt
            calls.append(rows)
            return sampler(model, rows, step)

    killed._sampler = Dying()
    with pytest.raises(KeyboardInterrupt):
        made_dataset(killed, tmp_path / "pairs")
    calls.pop()  # one of the three shards is left
    made_dataset(killed, tmp_path / "pairs")
    assert len(calls) == 2
    for path in (tmp_path / "undisturbed").iterdir():
        assert path.read_bytes() == (tmp_path / "pairs" / path.name).read_bytes()


def small_shards(*args, **options):
    from trl_mm.bdhs.dataset import make_pairs

    return make_pairs(*args, shard_size=2, **options)


def test_finished_pairs_are_taken_and_those_of_other_rows_refused(tmp_path):
    made_dataset(generator(online=False), tmp_path)
    again, _ = hand_made([])
    again.config, again.online = BDHSConfig(**FAST), False
    again._sampler.config = again.config  # it would fail if it were asked
    assert made_dataset(again, tmp_path) == tmp_path
    with pytest.raises(ValueError, match="made with other settings: `rows` is"):
        made_dataset(generator(online=False), tmp_path, dataset(6).select(range(1, 6)))


def test_a_function_as_similarity_works(tmp_path):
    """It tells the manifest no more than its name."""
    made = generator(online=False, similarity=half)
    pairs = load_preferences(made_dataset(made, tmp_path))
    assert set(pairs["bdhs_similarity"]) == {0.5}
    with pytest.raises(ValueError, match="`bdhs.similarity` is .*half.* there and .*other.* here"):
        made_dataset(generator(online=False, similarity=other), tmp_path)


def half(answers, chosen):
    return [0.5] * len(answers)


def other(answers, chosen):
    return torch.zeros(len(answers)).tolist()


def test_pairs_made_before_training_are_pushed_once(tmp_path, monkeypatch):
    pushed, checked = [], []
    monkeypatch.setattr(
        "trl_mm.bdhs.callback.push_preferences", lambda *args, **options: pushed.append((args, options))
    )
    monkeypatch.setattr("trl_mm.bdhs.callback.check_repo", lambda **options: checked.append(options))
    push = {"repo_id": "me/pairs", "private": True}

    def begin(callback, **state):
        callback.on_train_begin(None, TrainerState(**state), TrainerControl())

    made = BDHSDataGenerator(BDHSConfig(**FAST), online=False, push_to_hub=push)
    begin(made)
    for state in ({"is_world_process_zero": False}, {"global_step": 3}, {}, {}):
        if not pushed:
            folder = made_dataset(made, tmp_path)
        begin(made, **state)
    assert pushed == [((folder,), push)]
    assert checked == [push], "before pairs are made; a run that finds some may be a resumed one"


def test_a_push_without_a_name_is_refused():
    with pytest.raises(ValueError, match="`push_to_hub` needs a `repo_id`"):
        BDHSDataGenerator(BDHSConfig(**FAST), push_to_hub={"private": True})


class Training:
    """What a trainer tells its callbacks, without a trainer."""

    def __init__(self, callback, folder, step=0, rows=None, **arguments):
        self.callback = callback
        self.state = TrainerState(global_step=step, max_steps=arguments.get("max_steps", 0))
        self.args = TrainingArguments(str(folder), per_device_train_batch_size=2, use_cpu=True, **arguments)
        self.rows = list(rows or dataset(8))
        self.tell("train_begin", model=MODEL, train_dataloader=DataLoader(rows or dataset(8)))

    def tell(self, event, control=None, **kwargs):
        getattr(self.callback, f"on_{event}")(self.args, self.state, control or TrainerControl(), **kwargs)

    def step(self, save=False):
        step = self.state.global_step
        rows = [self.rows[(2 * step + number) % len(self.rows)] for number in (0, 1)]
        pairs, _ = self.callback.sample(MODEL, PROCESSOR, rows, step)
        self.callback.sample(MODEL, PROCESSOR, rows, None)  # an evaluation
        self.state.global_step += 1
        self.tell("step_end", TrainerControl(should_save=save))
        return pairs


def test_online_pairs_are_kept_with_their_step(tmp_path):
    training = Training(generator(save_to=str(tmp_path / "kept")), tmp_path)
    made = [pair for _ in range(3) for pair in training.step()]
    training.tell("train_end")
    kept = load_preferences(tmp_path / "kept")
    assert kept["step"][:] == [0, 0, 1, 1, 2, 2]
    for name in ("rejected", "chosen", "prompt", "row_id", "bdhs_attempts", "bdhs_guided", "bdhs_similarity"):
        assert kept[name][:] == [pair[name] for pair in made], name
    assert kept[1]["images"][0].tobytes() == tiny_row(1)["images"][0].tobytes()
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["settings"]["bdhs"]["max_sentence_tokens"] == 4
    assert manifest["settings"]["training"] == {"batch_size": 2, "learning_rate": 5e-5, "seed": 42}


def test_online_pairs_are_not_kept_unless_asked_for(tmp_path):
    training = Training(generator(), tmp_path / "out")
    training.step()
    training.tell("train_end")
    assert not list(tmp_path.rglob("*.parquet"))


def test_at_a_checkpoint_all_pairs_are_on_the_disk(tmp_path):
    training = Training(generator(save_to=str(tmp_path)), tmp_path)
    training.step()
    assert not list(tmp_path.glob("*.parquet"))
    training.step(save=True)
    (shard,) = tmp_path.glob("*.parquet")
    assert pq.read_table(shard)["step"].to_pylist() == [0, 0, 1, 1]
    training.step()
    training.args.save_strategy = "best"
    training.tell("evaluate")  # whether a checkpoint follows is not known yet
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_pairs_of_another_training_are_not_mixed(tmp_path):
    for settings, error in [({"learning_rate": 1e-3}, "`training.learning_rate` is 5e-05"), ({}, "`rows` is")]:
        Training(generator(save_to=str(tmp_path)), tmp_path)
        with pytest.raises(ValueError, match=f"made with other settings: {error}"):
            Training(generator(save_to=str(tmp_path)), tmp_path, rows=None if settings else dataset(4), **settings)


@pytest.fixture
def hub(monkeypatch):
    """What the callback asks of the Hub; a push fails with the error in `hub.error`, if there is one."""
    seen = SimpleNamespace(checked=[], pushed=[], error=None)

    def push(folder, **options):
        if seen.error:
            raise seen.error
        seen.pushed.append((len(load_preferences(folder)), options))

    monkeypatch.setattr("trl_mm.bdhs.callback.check_repo", lambda **options: seen.checked.append(options))
    monkeypatch.setattr("trl_mm.bdhs.callback.push_preferences", push)
    return seen


def test_online_pairs_are_pushed_at_the_end(tmp_path, hub):
    push = {"repo_id": "me/pairs", "private": True, "license": "mit"}
    training = Training(BDHSDataGenerator(BDHSConfig(**FAST), push_to_hub=push), tmp_path)
    assert hub.checked == [{"repo_id": "me/pairs", "private": True}], "before anything long begins"
    training.step()
    assert not hub.pushed
    training.tell("train_end")
    assert hub.pushed == [(2, push)]


def test_a_finished_run_that_is_repeated_pushes_nothing(tmp_path, hub, caplog):
    made = BDHSDataGenerator(BDHSConfig(**FAST), push_to_hub={"repo_id": "me/pairs"})
    training = Training(made, tmp_path, step=3, max_steps=3)
    training.tell("train_end")
    assert not hub.checked and not hub.pushed
    assert f"pairs in {tmp_path / 'pairs'} are not pushed again" in caplog.text
    training = Training(made, tmp_path, step=2, max_steps=3)
    training.step()
    training.tell("train_end")
    assert hub.checked and len(hub.pushed) == 1


def test_a_push_that_fails_at_the_end_loses_neither_model_nor_pairs(tmp_path, hub, caplog):
    hub.error = OSError("No network.")
    training = Training(BDHSDataGenerator(BDHSConfig(**FAST), push_to_hub={"repo_id": "me/pairs"}), tmp_path)
    training.step()
    training.tell("train_end")
    assert f"not pushed: No network. They are in {tmp_path / 'pairs'}" in caplog.text
    assert len(load_preferences(tmp_path / "pairs")) == 2
