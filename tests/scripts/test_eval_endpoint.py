import json

import pytest
from support.eval_world import ASKED, made_world, run_eval
from support.openai_server import KEY, asked, running_endpoint

from trl_mm.data.protocols import JudgeUnavailable
from trl_mm.eval.answers import read_answers


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return made_world(tmp_path_factory.mktemp("endpoint"))


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running_endpoint(lambda text, images: "Yes, a dog." if "dog" in text else "No.") as endpoint:
        endpoint.key = KEY
        yield endpoint


def ask(world, output, endpoint, *flags):
    run_eval(world, output, "--endpoint", endpoint.url, *flags)


def test_an_endpoint_is_asked_and_scored_like_a_model(world, tmp_path, endpoint):
    flags = ["--model_name_or_path", "llava", "--endpoint_options", '{"seed": 1}']
    ask(world, tmp_path, endpoint, *flags)
    assert read_answers(tmp_path / "pope") == ["Yes, a dog." if name == "dog" else "No." for _, name, _ in ASKED]
    assert json.loads((tmp_path / "scores.json").read_text())["pope"]["pope"]["accuracy"] == 0.5
    assert len(endpoint.requests) == len(ASKED)
    for body in endpoint.requests:
        assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("llava", 0, 128, 1)
        text, (image,) = asked(body)
        assert image.format == "PNG" and image.size[0] in (30, 40, 50) and text.startswith("Is there a ")
    record = (tmp_path / "run.json").read_text()
    assert json.loads(record)["endpoint"] == endpoint.url and KEY not in record
    ask(world, tmp_path, endpoint, *flags)
    assert len(endpoint.requests) == len(ASKED)
    with pytest.raises(ValueError, match="made with other settings: .*`endpoint_options"):
        ask(world, tmp_path, endpoint, *flags[:2])


def test_names_at_the_endpoint_may_be_several(world, tmp_path, endpoint):
    ask(world, tmp_path, endpoint, "--models", "base=llava", "aligned=org/llava-dpo")
    assert [body["model"] for body in endpoint.requests] == ["llava"] * 4 + ["org/llava-dpo"] * 4
    assert (tmp_path / "base" / "scores.json").exists() and (tmp_path / "aligned" / "run.json").exists()


def test_a_run_that_ended_asks_nothing_twice(world, tmp_path, endpoint):
    flags = ["--model_name_or_path", "llava", "--endpoint_concurrency", 1]
    endpoint.failures = [None, None, (503, {"Retry_After": 3600})]
    with pytest.raises(JudgeUnavailable, match="did not answer.*run again once it answers"):
        ask(world, tmp_path, endpoint, *flags)
    assert len(endpoint.requests) == 3
    ask(world, tmp_path, endpoint, *flags)
    assert len(endpoint.requests) == 5 and len(read_answers(tmp_path / "pope")) == 4


def test_refused_questions_are_counted_over_all_shards(world, tmp_path, endpoint):
    flags = ["--model_name_or_path", "llava", "--endpoint_concurrency", 1, "--batch_size", 1, "--limit", 3]
    (tmp_path / "pope.jsonl").write_text(
        (world / "pope.jsonl").read_text()
        + "\n"
        + json.dumps({"image": "c.png", "text": "Is there a unicycle?", "label": "no"})
    )
    flags += ["--pope_files", tmp_path / "pope.jsonl"]
    endpoint.failures = [None, 400, None, None, 400, 400]  # the first shard, its second question again, and the last
    with pytest.raises(ValueError, match=r"refuses 2 of 5 questions, the first 'Is there a cat"):
        ask(world, tmp_path / "out", endpoint, *flags)
    ask(world, tmp_path / "out", endpoint, *flags)
    assert len(read_answers(tmp_path / "out" / "pope")) == 5


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--endpoint", "here", "--model_name_or_path", "a"], "must look like https://host/v1"),
        (["--endpoint", "http://127.0.0.1:9/v1"], "`model_name_or_path` is missing: the name of the model at"),
        (["--endpoint", "x", "--model_name_or_path", "a", "--endpoint_timeout", "0"], "`endpoint_timeout`"),
    ],
)
def test_what_is_wrong_with_the_endpoint_is_said(world, tmp_path, flags, error):
    with pytest.raises(ValueError, match=error):
        run_eval(world, tmp_path / "out", *flags)
