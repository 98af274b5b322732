import json

import pytest
from support.eval_world import made_world, run_eval, save_other
from support.judged import GradedBenchmark
from support.openai_server import KEY, running_endpoint

from trl_mm.data.protocols import JudgeUnavailable
from trl_mm.eval.answers import read_answers
from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.scripts import eval_judge, eval_models


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = made_world(tmp_path_factory.mktemp("judged"))
    save_other(folder / "judge")
    return folder


@pytest.fixture(autouse=True)
def graded(monkeypatch):
    monkeypatch.setitem(BENCHMARKS, "graded", GradedBenchmark)


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with running_endpoint(None) as endpoint:
        endpoint.key = KEY
        yield endpoint


def flags_of(world, endpoint, tmp_path):
    return ["--model_name_or_path", world / "base", "--judge_model", "gpt", "--judge_base_url", endpoint.url] + [
        *["--judge_api_key_variable", "JUDGE_KEY", "--judge_cache_dir", tmp_path / "cache", "--judge_concurrency", 1]
    ]


def grade(text, images):
    """What the judge of these tests says."""
    assert len(images) == 1
    return f"Grade of {text.partition(':')[0]}"


def judged_run(world, output, *flags, benchmarks=("graded", "pope")):
    run_eval(world, output, *flags, benchmarks=benchmarks)
    return json.loads((output / "scores.json").read_text())


def test_the_judge_is_asked_as_published_and_its_replies_are_scored(world, tmp_path, endpoint, capsys):
    endpoint.reply = grade
    flags = [*flags_of(world, endpoint, tmp_path), "--judge_options", '{"temperature": null, "top_p": 1}']
    scores = judged_run(world, tmp_path / "out", *flags)
    assert scores["graded"]["replies"] == [f"Grade of truth {name}.png" for name in "abc"] and "pope" in scores
    assert "3 grades, 0 not judged" in capsys.readouterr().out
    for body in endpoint.requests:
        assert body["messages"][0] == {"role": "system", "content": "You grade."}
        assert (body["model"], body["max_tokens"], body["top_p"]) == ("gpt", 7, 1) and "temperature" not in body
    rows = [json.loads(line) for line in (tmp_path / "out" / "graded" / "judged.jsonl").read_text().splitlines()]
    answers = read_answers(tmp_path / "out" / "graded")
    assert [(row["image"], row["answer"], row["reply"]) for row in rows] == [
        (f"{name}.png", said, f"Grade of truth {name}.png") for name, said in zip("abc", answers, strict=True)
    ]
    text = (tmp_path / "out" / "run.json").read_text()
    record = json.loads(text)["benchmarks"]
    judge = record["graded"]["judge"]
    assert (judge["model"], judge["base_url"]) == ("gpt", endpoint.url) and len(judge["prompts"]) == 64
    assert judge["options"] == {"max_tokens": 7, "top_p": 1} and "judge" not in record["pope"] and KEY not in text
    assert judged_run(world, tmp_path / "out", *flags) == scores and len(endpoint.requests) == 3


def test_a_judge_that_is_down_keeps_what_it_said(world, tmp_path, endpoint):
    endpoint.reply, endpoint.failures = grade, [None, (503, {"Retry_After": 3600})]
    flags = flags_of(world, endpoint, tmp_path)
    with pytest.raises(JudgeUnavailable, match="graded: .*did not answer.*kept in .*the same command goes on"):
        judged_run(world, tmp_path / "out", *flags)
    assert len(endpoint.requests) == 2 and not (tmp_path / "out" / "scores.json").exists()
    assert judged_run(world, tmp_path / "out", *flags)["graded"]["unjudged"] == 0
    assert len(endpoint.requests) == 4


def test_what_is_refused_is_not_judged(world, tmp_path, endpoint):
    endpoint.reply, endpoint.failures = grade, [None, 400]
    scores = judged_run(world, tmp_path / "out", *flags_of(world, endpoint, tmp_path))
    assert scores["graded"]["unjudged"] == 1 and scores["graded"]["replies"][1] is None


def test_without_a_judge_answers_alone_can_be_had(world, tmp_path, endpoint, monkeypatch, capsys):
    flags = ["--model_name_or_path", world / "base"]
    with monkeypatch.context() as patch:
        patch.setattr(eval_models, "load_model", lambda *given: pytest.fail("loaded"))
        with pytest.raises(ValueError, match="`judge_model` is missing: a judge scores graded. Pass .*--answers_only"):
            judged_run(world, tmp_path, *flags)
    run_eval(world, tmp_path, *flags, "--answers_only", benchmarks=("graded", "pope"))
    assert "Answers in" in capsys.readouterr().out and not (tmp_path / "scores.json").exists()
    assert len(read_answers(tmp_path / "graded")) == 3
    endpoint.reply = grade
    monkeypatch.setattr("trl_mm.generation.Completer.complete", lambda *given: pytest.fail("asked again"))
    assert judged_run(world, tmp_path, *flags_of(world, endpoint, tmp_path))["graded"]["unjudged"] == 0


def test_a_judge_may_be_a_model_that_is_loaded_here(world, tmp_path, monkeypatch):
    loaded, load_model = [], eval_judge.load_model
    monkeypatch.setattr(eval_judge, "load_model", lambda *given: loaded.append(given) or load_model(*given))
    flags = ["--model_name_or_path", world / "base", "--judge_model", world / "judge", "--judge_cache_dir", tmp_path]
    monkeypatch.setattr(
        "trl_mm.generation.Completer.complete",
        lambda self, model, requests: [f"{self.settings.max_new_tokens}: {r.prompt.text}" for r in requests],
    )
    scores = judged_run(world, tmp_path / "out", *flags)
    said = "256: USER: < image>\nWhat is it? ASSISTANT:"  # an image token in an answer is text to the judge
    texts = [f"truth {name}.png: grade {said!r}." for name in "abc"]
    expected = [f"7: SYSTEM: You grade. USER: <image>\n{text} ASSISTANT:" for text in texts]
    assert scores["graded"]["replies"] == expected and len(loaded) == 1
    assert judged_run(world, tmp_path / "out", *flags) == scores and len(loaded) == 1
    record = json.loads((tmp_path / "out" / "run.json").read_text())["benchmarks"]["graded"]["judge"]
    assert record["model"] == str(world / "judge") and record["base_url"] is None


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--judge_model", "gpt-4o"], r"`judge_model` \(gpt-4o\) is no folder here.*endpoint needs `judge_base_url`"),
        (["--judge_base_url", "http://x/v1"], "`judge_base_url` needs `judge_model`"),
        (["--judge_model", "gpt", "--judge_base_url", "x"], "must look like https://host/v1"),
        (["--judge_model", "gpt", "--judge_options", "7"], "`judge_options` must be a mapping"),
    ],
)
def test_what_is_wrong_with_a_judge_is_said_before_a_model_is_loaded(world, tmp_path, monkeypatch, flags, error):
    monkeypatch.setattr(eval_models, "load_model", lambda *given: pytest.fail("loaded"))
    with pytest.raises((ValueError, OSError), match=error):
        judged_run(world, tmp_path, "--model_name_or_path", world / "base", *flags)
