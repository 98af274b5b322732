"""What is said and left out of a dataset before a trainer gets it."""

import logging

import pytest
from datasets import Dataset
from support.rows import image_dataset, tiny_pairs
from support.tiny import tiny_processor

from trl_mm import MMDPOConfig
from trl_mm.data.rows import INTERNAL_COLUMNS
from trl_mm.tokens.lengths import count_tokens
from trl_mm.trainer.row_checks import checked_rows, prompts_are_text, warn_of_rendered_prompts, without_internal


NEEDS = ("images", "prompt", "chosen", "rejected")


def checked(dataset, folder, name="train", max_length=None, reports=None, **settings):
    args = MMDPOConfig(str(folder), report_to="none", bf16=False, use_cpu=True, **settings)
    reports = {} if reports is None else reports
    return checked_rows(dataset, tiny_processor(), args, NEEDS, reports, name, max_length)


def test_rows_that_are_too_long_are_dropped_and_reported(tmp_path):
    question = [{"role": "user", "content": "Describe the image. " * 50}]
    dataset = image_dataset([*tiny_pairs(3), {**tiny_pairs(4)[3], "prompt": question}])
    longest = int(count_tokens(dataset, tiny_processor()).total[:3].max())
    reports = {}
    assert checked(dataset, tmp_path, max_length=longest, reports=reports)["row_id"][:] == ["0", "1", "2"]
    assert list(reports) == ["train"]
    assert checked(dataset, tmp_path)["row_id"][:] == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="1 of 4 rows"):
        checked(dataset, tmp_path, max_length=longest, overlong="error")


def test_every_dataset_of_an_evaluation_is_checked_under_its_own_name(tmp_path):
    reports = {}
    found = checked({"a": image_dataset(tiny_pairs(2)), "b": None}, tmp_path, "eval", reports=reports)
    assert found["b"] is None and len(found["a"]) == 2 and list(reports) == ["eval_a"]
    broken = Dataset.from_list([{**tiny_pairs(1)[0], "images": []}, {**tiny_pairs(1)[0], "images": [], "chosen": []}])
    with pytest.raises(ValueError, match="eval_b dataset, row 1"):
        checked({"b": broken}, tmp_path, "eval")


def test_splits_and_streams_are_refused(tmp_path):
    dataset = image_dataset(tiny_pairs(2))
    with pytest.raises(ValueError, match=r"several splits: train, test. Pass .*data\['train'\]"):
        checked({"train": dataset, "test": dataset}, tmp_path)
    with pytest.raises(ValueError, match="train dataset is a stream.*without `streaming=True`"):
        checked(dataset.to_iterable_dataset(), tmp_path)


def test_columns_that_trainers_make_are_left_out_and_named(caplog):
    rows = {name: [1.0] for name in INTERNAL_COLUMNS}
    assert without_internal(Dataset.from_dict({**rows, "mine": [1]}), "train").column_names == ["mine"]
    (record,) = caplog.records
    assert all(name in record.getMessage() for name in INTERNAL_COLUMNS) and "train dataset" in record.getMessage()
    caplog.clear()
    assert without_internal(Dataset.from_dict({"mine": [1]}), "train").column_names == ["mine"]
    assert not caplog.records


@pytest.mark.parametrize(
    ("prompts", "count"),
    [
        (["USER: Yes? ASSISTANT:", "Yes?", "USER: No? ASSISTANT: \n"], 2),
        (["Yes?", None], 0),
        ([[{"role": "user", "content": "Yes? ASSISTANT:"}]], 0),
    ],
)
def test_prompts_with_the_chat_template_put_on_are_pointed_out(prompts, count, caplog):
    caplog.set_level(logging.WARNING, "trl_mm")
    dataset = Dataset.from_dict({"prompt": prompts})
    assert prompts_are_text(dataset) == (len(prompts) > 1)
    warn_of_rendered_prompts(dataset, tiny_processor(), "train")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == bool(count) and all(f"`prompt` of {count} rows" in message for message in messages)
