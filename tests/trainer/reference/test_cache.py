"""Training with reference log-probabilities from the cache beside training without, and when the cache is used."""

import io
import json
import logging
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from filelock import FileLock, Timeout
from peft import LoraConfig, get_peft_model
from support.rows import image_dataset as dataset
from support.tiny import TRAINING, bare_processor, tiny_image, tiny_model, tiny_processor, tiny_row
from support.training import losses
from transformers import AutoProcessor

from trl_mm import BDHSConfig, BDHSDataGenerator, MMDPOConfig, MMDPOTrainer
from trl_mm.tokens.lengths import count_tokens
from trl_mm.trainer.reference import cache as ref_log_probs
from trl_mm.trainer.reference import cache_key as reference_key
from trl_mm.trainer.reference.cache import _alone, _shares, longest_first, with_log_probs
from trl_mm.trainer.reference.cache_key import reference_digest


LORA = {"target_modules": ["q_proj", "v_proj"], "r": 2}
ANSWERS = ["There is a dog.", "No.", "A dog and a cat sit on a sofa. The sky is blue!"]


@pytest.fixture
def computed(monkeypatch):
    """Number of rows of each batch whose reference log-probabilities were computed."""
    sizes, compute = [], MMDPOTrainer.compute_ref_log_probs

    def counting(self, model, inputs):
        sizes.append(len(inputs["input_ids"]) // 2)
        return compute(self, model, inputs)

    monkeypatch.setattr(MMDPOTrainer, "compute_ref_log_probs", counting)
    return sizes


def pairs(count=6, text_only=(1, 4)):
    return [
        {
            **tiny_row(seed, size=(30 + 10 * seed, 40)),
            **({"images": []} if seed in text_only else {}),
            "rejected": [{"role": "assistant", "content": ANSWERS[seed % 3]}],
        }
        for seed in range(count)
    ]


def trainer(checkpoint, folder, rows=None, *, lora=False, extra=None, **settings):
    arguments = {
        "output_dir": str(folder / "out"),
        "ref_log_probs_dir": str(folder / "cache"),
        "precompute_ref_log_probs": True,
        "per_device_train_batch_size": 2,
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        **TRAINING,
    }
    return MMDPOTrainer(
        checkpoint,
        args=MMDPOConfig(**{**arguments, **settings}),
        train_dataset=dataset(pairs() if rows is None else rows),
        peft_config=LoraConfig(**LORA) if lora else None,
        **(extra or {}),
    )


def values(trained):
    rows = trained.train_dataset
    return np.array([rows["ref_chosen_logps"][:], rows["ref_rejected_logps"][:]])


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prefix_sharing": False},
        {"ld_alpha": 0.3, "train_sampling_strategy": "group_by_length"},
        {"max_length": 60, "gradient_checkpointing": False},
    ],
    ids=["shared", "unshared", "ld_alpha", "cut"],
)
def test_losses_are_those_of_training_without(checkpoint, tmp_path, lora, settings):
    cached = trainer(checkpoint, tmp_path, lora=lora, **settings)
    assert cached.ref_model is None
    assert cached.pair_collator.images_per_prompt == settings.get("prefix_sharing", True)
    found = losses(cached)
    without = trainer(checkpoint, tmp_path, lora=lora, **settings, precompute_ref_log_probs=False)
    assert len(found) >= 4 and len(set(found)) > 2
    assert found == pytest.approx(losses(without), rel=1e-5)


def test_a_reference_of_its_own_is_used(checkpoint, tmp_path):
    def run(**settings):
        extra = {"ref_model": tiny_model(seed=1, scale=4)}
        return losses(trainer(checkpoint, tmp_path, extra=extra, **settings))

    found = run()
    assert found == pytest.approx(run(precompute_ref_log_probs=False), rel=1e-5)
    assert found[0] != pytest.approx(losses(trainer(checkpoint, tmp_path))[0], rel=1e-2)


def test_an_adapter_to_train_on_is_its_own_reference(checkpoint, tmp_path):
    def run(**settings):
        torch.manual_seed(0)
        model = get_peft_model(tiny_model(scale=4), LoraConfig(**LORA, init_lora_weights=False))
        settings["extra"] = {"processing_class": tiny_processor()}
        return losses(trainer(model, tmp_path, **settings))

    found = run()
    assert found == pytest.approx(run(precompute_ref_log_probs=False), rel=1e-5)
    assert found[0] == pytest.approx(np.log(2), rel=1e-4)


def test_the_cache_serves_other_runs(checkpoint, tmp_path, computed, caplog):
    caplog.set_level(logging.INFO, "trl_mm")
    first = trainer(checkpoint, tmp_path)
    assert sum(computed) == 6 and "6 of 6 train rows were computed in" in caplog.text
    others = [
        {"output_dir": str(tmp_path / "other"), "learning_rate": 1.0, "seed": 3},
        {"lora": True, "seed": 4},
        {"prefix_sharing": False, "per_device_train_batch_size": 1},
    ]
    for settings in others:
        caplog.clear()
        np.testing.assert_array_equal(values(trainer(checkpoint, tmp_path, **settings)), values(first))
        assert "are taken from" in caplog.text
    assert sum(computed) == 6


@pytest.mark.parametrize(("processor", "serves"), [(tiny_processor, True), (bare_processor, False)])
def test_values_from_before_tokens_were_added_do_not_fit(
    checkpoint, tmp_path, monkeypatch, computed, processor, serves
):
    """Those of other chat templates, which write their tokens, still do."""
    with monkeypatch.context() as patch:  # the keys of then
        patch.setattr(reference_key, "bos_ids", lambda _: [])
        patch.setattr(reference_key, "missing_eos", lambda _: "")
        trainer(checkpoint, tmp_path, extra={"processing_class": processor()})
    trainer(checkpoint, tmp_path, extra={"processing_class": processor()})
    assert sum(computed) == (6 if serves else 12)


def test_the_processor_of_a_used_trainer_still_fits(checkpoint, tmp_path, computed):
    """Fast tokenizers keep how they padded the last batch, and would save it."""
    used = trainer(checkpoint, tmp_path, max_length=None)
    trainer(checkpoint, tmp_path, max_length=None, extra={"processing_class": used.processing_class})
    assert sum(computed) == 6


def _other_text(row):
    return {**row, "rejected": [{"role": "assistant", "content": "Yes."}]}


def _changed(processor, template=None, mean=None):
    if template:
        processor.chat_template = processor.chat_template.replace("USER", "HUMAN").replace("ASSISTANT", template)
    if mean:
        processor.image_processor.image_mean = mean
    return {"processing_class": processor}


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("rows", lambda _: {"rows": [*pairs()[:5], _other_text(pairs()[5])]}),
        ("rows", lambda _: {"rows": [*pairs()[:5], {**pairs()[5], "images": [tiny_image(9, (80, 40))]}]}),
        ("rows", lambda _: {"rows": pairs()[::-1]}),
        ("processor", lambda path: {"extra": _changed(AutoProcessor.from_pretrained(path), template="BOT")}),
        ("processor", lambda path: {"extra": _changed(AutoProcessor.from_pretrained(path), mean=[0.1, 0.2, 0.3])}),
        ("max_length", lambda _: {"max_length": 60}),
        ("ld_alpha", lambda _: {"ld_alpha": 0.5}),
        ("mixed_precision", lambda _: {"bf16": True}),
        ("reference", lambda _: {"extra": {"ref_model": tiny_model(seed=1, scale=4)}}),
    ],
    ids=["text", "image", "order", "template", "image-settings", "max_length", "ld_alpha", "bf16", "weights"],
)
def test_whatever_values_depend_on_makes_new_ones(checkpoint, tmp_path, computed, caplog, part, change):
    trainer(checkpoint, tmp_path)
    caplog.set_level(logging.INFO, "trl_mm")
    trainer(checkpoint, tmp_path, **change(checkpoint))
    assert sum(computed) == 12
    assert f"it differs in {part}." in caplog.text
    assert len(list((tmp_path / "cache").glob("*/manifest.json"))) == 2


@pytest.mark.parametrize(("attribute", "value"), [("backend", "other"), ("__module__", "other")])
def test_images_by_another_class_or_backend_make_new_values(
    checkpoint, tmp_path, monkeypatch, computed, caplog, attribute, value
):
    """What `save_pretrained` writes is the same."""
    trainer(checkpoint, tmp_path)
    monkeypatch.setattr(type(tiny_processor().image_processor), attribute, value)
    caplog.set_level(logging.INFO, "trl_mm")
    trainer(checkpoint, tmp_path)
    assert sum(computed) == 12 and "it differs in processor_classes." in caplog.text


@pytest.mark.parametrize("part", ["format", "transformers", "trl"])
def test_values_of_other_versions_do_not_fit(checkpoint, tmp_path, monkeypatch, computed, caplog, part):
    trainer(checkpoint, tmp_path)
    if part == "format":
        monkeypatch.setattr(reference_key, "FORMAT", reference_key.FORMAT + 1)
    else:
        real = reference_key.version
        monkeypatch.setattr(reference_key, "version", lambda name: "99.0.1" if name == part else real(name))
    caplog.set_level(logging.INFO, "trl_mm")
    trainer(checkpoint, tmp_path)
    assert sum(computed) == 12 and f"it differs in {part}." in caplog.text


def test_an_image_file_that_changes_makes_new_values(checkpoint, tmp_path, computed):
    path = tmp_path / "image.bmp"  # without compression: other pixels, same size
    rows = [{**pairs()[0], "images": [str(path)]}]
    for seed in (1, 1, 2):
        if seed == 2 or not path.exists():
            tiny_image(seed).save(path)
            os.utime(path, ns=(seed, seed))
        trainer(checkpoint, tmp_path, rows=rows)
    assert sum(computed) == 2


def test_the_digest_of_a_reference(checkpoint):
    digest = reference_digest(tiny_model())
    adapted = get_peft_model(tiny_model(), LoraConfig(**LORA, init_lora_weights=False))
    assert reference_digest(adapted) == digest
    with_projector = get_peft_model(tiny_model(), LoraConfig(**LORA, modules_to_save=["multi_modal_projector"]))
    assert reference_digest(with_projector) == digest
    adapted.add_adapter("ref", LoraConfig(**LORA))
    with_zeros = reference_digest(adapted)
    next(p for name, p in adapted.named_parameters() if "lora_B.ref" in name).data += 1
    other = tiny_model()
    other.config.vision_feature_layer = -2
    changed = tiny_model()
    changed.lm_head.weight.data[0, 0] += 1e-3
    models = [adapted, other, changed, tiny_model().bfloat16()]
    assert len({digest, with_zeros, *map(reference_digest, models)}) == 6


class Killed(Exception):
    pass


def test_a_killed_computation_goes_on(checkpoint, tmp_path, monkeypatch, computed):
    monkeypatch.setattr(ref_log_probs, "SHARD_SIZE", 2)
    undisturbed = values(trainer(checkpoint, tmp_path / "undisturbed"))
    computed.clear()
    count = MMDPOTrainer.compute_ref_log_probs

    def dying(self, *args):
        if sum(computed) == 4:
            raise Killed
        return count(self, *args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MMDPOTrainer, "compute_ref_log_probs", dying)
        trainer(checkpoint, tmp_path)
    np.testing.assert_array_equal(values(trainer(checkpoint, tmp_path)), undisturbed)
    assert sum(computed) == 6


def _half(content):
    return content[: len(content) // 2]


def _changed_value(content):
    value = struct.pack("<d", pq.read_table(io.BytesIO(content))["ref_chosen_logps"][0].as_py())
    assert value in content
    return content.replace(value, struct.pack("<d", -1.0))


def _begun_with_another_order(content):
    manifest = json.loads(content)
    return json.dumps({**manifest, "complete": False, "settings": {**manifest["settings"], "order": "x"}}).encode()


@pytest.mark.parametrize(
    ("file", "damage", "again", "message"),
    [
        ("shard-00001.parquet", _half, 2, "shard-00001.parquet is not intact"),
        ("shard-00001.parquet", _changed_value, 2, "shard-00001.parquet is not intact"),
        ("manifest.json", _half, 6, "is no JSON"),
        ("manifest.json", _begun_with_another_order, 6, "another version of trl_mm"),
    ],
    ids=["truncated", "changed", "manifest", "order"],
)
def test_what_a_crash_left_is_computed_again(
    checkpoint, tmp_path, monkeypatch, computed, caplog, file, damage, again, message
):
    monkeypatch.setattr(ref_log_probs, "SHARD_SIZE", 2)
    expected = values(trainer(checkpoint, tmp_path))
    (path,) = (tmp_path / "cache").glob(f"*/{file}")
    path.write_bytes(damage(path.read_bytes()))
    computed.clear()
    np.testing.assert_array_equal(values(trainer(checkpoint, tmp_path)), expected)
    assert sum(computed) == again
    assert any(record.levelname == "WARNING" and message in record.getMessage() for record in caplog.records)
    np.testing.assert_array_equal(values(trainer(checkpoint, tmp_path)), expected)
    assert sum(computed) == again


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_value_that_is_not_finite_names_its_row(checkpoint, tmp_path, monkeypatch, computed, bad):
    monkeypatch.setattr(ref_log_probs, "SHARD_SIZE", 2)
    row = longest_first(dataset(pairs()), count_tokens(dataset(pairs()), tiny_processor()).total)["row"][3]
    compute = MMDPOTrainer.compute_ref_log_probs

    def broken(self, *args):
        chosen, rejected = compute(self, *args)
        return chosen, torch.tensor([rejected[0], bad]) if sum(computed) == 4 else rejected

    with monkeypatch.context() as patch:
        patch.setattr(MMDPOTrainer, "compute_ref_log_probs", broken)
        message = rf"Row {row} \(`row_id` '{row}'\) of the train dataset .* of {bad} for its rejected answer"
        with pytest.raises(ValueError, match=message):
            trainer(checkpoint, tmp_path)
    assert len(list((tmp_path / "cache").glob("*/*.parquet"))) == 1  # what came before
    assert np.isfinite(values(trainer(checkpoint, tmp_path))).all()
    assert sum(computed) == 8


def test_rows_that_are_left_out_are_not_copied(checkpoint, tmp_path):
    rows = pairs()
    rows[2]["prompt"] = [{"role": "user", "content": "Describe the image. " * 40}]
    dropped = trainer(checkpoint, tmp_path, rows=rows, max_length=150)
    assert dropped.train_dataset["row_id"][:] == ["0", "1", "3", "4", "5"]
    assert len(dropped.train_dataset.data) == 6
    whole = values(trainer(checkpoint, tmp_path, max_length=150))
    np.testing.assert_allclose(values(dropped), np.delete(whole, 2, axis=1), rtol=1e-5)


def test_values_stand_beside_their_rows():
    rows = Dataset.from_dict({"x": list(range(6))})
    for numbers in ([4, 0, 2], [5, 3, 5], range(1, 4)):
        values = np.array([[number, -number] for number in numbers], dtype=np.float32)
        found = with_log_probs(with_log_probs(rows.select(numbers), values), values)
        assert found["x"][:] == found["ref_chosen_logps"][:] == list(numbers)
        assert found["ref_rejected_logps"][:] == [-number for number in numbers]
    assert with_log_probs(rows.select([]), np.zeros((0, 2), np.float32)).column_names[0] == "x"


def test_long_rows_come_first_and_rows_without_images_last():
    order = longest_first(dataset(pairs()), np.array([5, 9, 7, 7, 1, 8]))
    assert order["row"][:] == [5, 2, 3, 0, 1, 4]
    assert order["has_images"][:] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_processes_compute_as_many_batches_of_the_same_kind(world_size):
    rows = [{"row": 10 + number, "has_images": number < 5} for number in range(8)]
    plans = [list(_shares(rows, 2, rank, world_size)) for rank in range(world_size)]
    for batches in zip(*plans, strict=True):
        batch = batches[0][0]
        assert all(numbers == batch for numbers, _ in batches)
        joined = [number for _, share in batches for number in share]
        assert joined[: len(batch)] == batch and set(joined) == set(batch)
        assert len({len(share) for _, share in batches}) == 1 and len(batches[0][1]) <= 2
        assert len({number < 15 for number in batch}) == 1
    assert [number for numbers, _ in plans[0] for number in numbers] == list(range(10, 18))


def test_a_run_waits_for_another_that_computes_the_same(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "trl_mm")
    asked = []

    def acquire(self, timeout):
        asked.append(timeout)
        if len(asked) < 3:
            raise Timeout(self.lock_file)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with _alone(tmp_path / "cache" / "key", main=True):
        assert len(asked) == 3 and all(timeout > 0 for timeout in asked)
    assert caplog.text.count("this one waits") == 2


TWO_PROCESSES = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_ref_log_probs as here
folder = Path(sys.argv[1])
here.ref_log_probs.SHARD_SIZE = 4
trained = here.trainer(sys.argv[2], folder, here.pairs(7), max_steps=1)
here.np.save(folder / f"{{trained.accelerator.process_index}}.npy", here.values(trained))
trained.train()
assert trained.accelerator.num_processes == 2
"""


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_compute_the_values_of_one(checkpoint, tmp_path, computed):
    one = values(trainer(checkpoint, tmp_path / "one", pairs(7)))
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent)))
    # `accelerate launch --cpu` would start one process, or ask for MPI
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*launch, script, tmp_path, checkpoint], env=environment, check=True, timeout=120)
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"{rank}.npy"), one, rtol=1e-5)
    computed.clear()
    trainer(checkpoint, tmp_path, pairs(7))  # one process takes what two have computed
    assert not computed


def bdhs(online):
    config = BDHSConfig(similarity="lexical", max_sentence_tokens=5, max_answer_tokens=5)
    return {"callbacks": [BDHSDataGenerator(config, online=online)]}


def test_pairs_made_before_training_get_their_values(checkpoint, tmp_path, computed):
    rows = [tiny_row(seed) for seed in range(4)]
    found = losses(trainer(checkpoint, tmp_path, rows, extra=bdhs(online=False)))
    assert sum(computed) == 4
    without = trainer(checkpoint, tmp_path, rows, extra=bdhs(online=False), precompute_ref_log_probs=False)
    assert found == pytest.approx(losses(without), rel=1e-5)


def test_pairs_made_during_training_are_refused(checkpoint, tmp_path):
    rows = [tiny_row(seed) for seed in range(4)]
    with pytest.raises(ValueError, match="Pairs that change with the policy.*`online=False`"):
        trainer(checkpoint, tmp_path, rows, extra=bdhs(online=True))
    with pytest.raises(ValueError, match="Rows of the eval dataset have no `rejected`.*`trl-mm bdhs`"):
        trainer(checkpoint, tmp_path, rows, extra={**bdhs(online=False), "eval_dataset": dataset(rows[:2])})


def test_evaluation_uses_the_cache_too(checkpoint, tmp_path, computed):
    evaluation = {"train": dataset(pairs(2)), "b": dataset(pairs(3))}
    trained = trainer(checkpoint, tmp_path, extra={"eval_dataset": evaluation})
    assert sum(computed) == 6 + 2 + 3
    metrics = trained.evaluate()
    assert metrics["eval_train_loss"] == pytest.approx(np.log(2)) and metrics["eval_b_loss"] == pytest.approx(
        np.log(2)
    )
    assert trained.evaluate(dataset(pairs(3)))["eval_loss"] == metrics["eval_b_loss"]
    assert sum(computed) == 6 + 2 + 3
    trained.evaluate({"train": dataset(pairs(4))})
    assert sum(computed) == 6 + 2 + 3 + 4
    assert {name: len(report.counts) for name, report in trained.fit_report.items()} == {
        "train": 6,
        "eval_train": 4,
        "eval_b": 3,
        "eval": 3,
    }
    trained.train()
    with pytest.raises(ValueError, match="after training has started"):
        trained.evaluate(dataset(pairs(5)))


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode is deprecated:FutureWarning")
def test_cutting_from_the_left_is_refused_as_without(checkpoint, tmp_path):
    for precompute in (True, False):
        with pytest.raises(ValueError, match="truncation_mode='keep_end'"):
            trainer(checkpoint, tmp_path, truncation_mode="keep_end", precompute_ref_log_probs=precompute)
