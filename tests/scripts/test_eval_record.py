import hashlib
import json

import pytest
from support.eval_world import made_world, run_eval
from support.tiny import TEMPLATE

from trl_mm.data.shards import read_manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return made_world(tmp_path_factory.mktemp("record"))


def test_the_record_says_what_was_measured_and_how(world, tmp_path):
    flags = ["--system_prompt", "Be brief.", "--limit", 2, "--seed", 3, "--pope_suffix", "One word."]
    run_eval(world, tmp_path, "--models", f"a={world / 'base'}", *flags)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    kept = read_manifest(tmp_path / "a" / "pope")["settings"]
    assert (record["name"], record["model"]) == ("a", str(world / "base"))
    assert (record["seed"], record["limit"], record["max_images"]) == (3, 2, None)
    assert record["weights"] == kept["weights"] and record["system_prompt"] == "Be brief."
    template = record["chat_template"]
    assert template["text"].endswith(TEMPLATE) and "Be brief." in template["text"]
    assert template["sha256"] == hashlib.sha256(json.dumps(template["text"]).encode()).hexdigest()
    assert record["image_processor"]["crop_size"] == {"height": 28, "width": 28}
    pope = record["benchmarks"]["pope"]
    assert (pope["questions"], pope["images"], pope["max_new_tokens"]) == (3, 2, 128)
    assert pope["digest"] == kept["questions"] and pope["settings"]["pope_suffix"] == "One word."
    question = "Is there a dog?\nOne word."
    assert pope["first_question"] == question
    assert pope["first_prompt"] == f"SYSTEM: Be brief. USER: <image>\n{question} ASSISTANT:"
    assert record["device"] == "cpu" and record["versions"]["transformers"] and record["date"].endswith("+00:00")


def test_one_model_has_its_record_beside_its_scores(world, tmp_path):
    run_eval(world, tmp_path, "--model_name_or_path", world / "base")
    assert json.loads((tmp_path / "run.json").read_text())["name"] is None
    assert (tmp_path / "scores.json").exists() and not list(tmp_path.glob(".*"))
