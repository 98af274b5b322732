"""What holds of every benchmark that a judge scores, and what they share."""

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.openai_server import running_endpoint

from trl_mm.eval.benchmarks import BENCHMARKS
from trl_mm.eval.judged import per_image, read_replies, reply_text, same_ids, unjudged_lines
from trl_mm.judges.remote_client import ChatClient


JUDGED = {name: kind for name, kind in BENCHMARKS.items() if name in ("llava_bench", "mmhal", "mmhal_v", "mmvet")}
FILES = {
    "questions.jsonl": {"question_id": 0, "image": "a.png", "text": "What?", "category": "conv"},
    "context.jsonl": {"image": "a.png", "caption": "A hill."},
    "answers_gpt4.jsonl": {"question_id": 0, "text": "A hill."},
    "mmhal.json": [
        {
            "image_src": "https://example.org/a.png",
            "image_content": ["Hill"],
            "question": "What?",
            "gt_answer": "A hill.",
        }
    ],
    "mm-vet.json": {"v1_0": {"imagename": "a.png", "question": "What?", "answer": "hill", "capability": ["rec"]}},
}
GRADES = {"llava_bench": "8 4\nBecause.", "mmhal": "Rating: 4", "mmhal_v": "Rating: 4", "mmvet": "0.7"}


@pytest.fixture
def make(tmp_path):
    """Function that makes a benchmark of one question about an image."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(json.dumps(content))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    options = {
        "llava_bench": {"llava_bench_data": str(tmp_path)},
        "mmhal": {"mmhal_file": str(tmp_path / "mmhal.json")},
        "mmhal_v": {"mmhal_v_file": str(tmp_path / "mmhal.json")},
        "mmvet": {"mmvet_file": str(tmp_path / "mm-vet.json")},
    }
    return lambda name: BENCHMARKS[name](**options[name])


@pytest.mark.parametrize("name", JUDGED)
def test_an_endpoint_is_asked_with_the_published_options(make, tmp_path, monkeypatch, name):
    monkeypatch.setenv("NO_PROXY", "*")
    measure = make(name)
    (row,) = measure.questions(None, seed=0)
    rows = [{**row, "image": str(tmp_path / row["image"])}]
    with running_endpoint(lambda text, images: GRADES[name]) as endpoint:

        def ask(questions, **options):
            options = {**measure.judge_options, **options}
            return ChatClient("judge", endpoint.url, options=options, cache_dir=tmp_path / "replies").complete(
                questions
            )

        columns = measure.judge(rows, ["A mountain."], ask)
        requests = [{name: request[name] for name in request if name != "messages"} for request in endpoint.requests]
        images = [isinstance(request["messages"][0]["content"], list) for request in endpoint.requests]
    assert requests == [
        {"model": "judge", **measure.judge_options, **({"seed": run} if run else {})}
        for run in range(measure.mmvet_runs if name == "mmvet" else 1)
    ]
    assert images == [name == "mmhal_v"] * len(requests)
    rows = [{**row, **column} for row, column in zip(rows, columns, strict=True)]
    result = json.loads(json.dumps(measure.score(rows, ["A mountain."], seed=0)))
    parts = measure.metric_parts(result)
    assert list(parts)[0] == list(measure.metrics)[0] and set(parts) <= set(measure.metrics)
    assert {len(side) for part in parts.values() for side in part} == {1}
    assert measure.row_scores(result) == {"llava_bench": [4], "mmvet": [0.7]}.get(name, [4])
    assert measure.title in measure.lines(result)[0]


@pytest.mark.parametrize("name", JUDGED)
def test_without_a_judge_there_is_no_score(make, name):
    measure = make(name)
    with pytest.raises(ValueError, match=f"{re.escape(measure.title)} is scored by a judge"):
        measure.score(measure.questions(None, seed=0), ["A mountain."], seed=0)


def test_replies_are_found_in_all_forms(tmp_path):
    response = {"choices": [{"message": {"content": "Yes"}}]}
    forms = ["Yes", {"reply": "Yes"}, {"content": "Yes"}, {"review": response}, response, None, {"reply": None}]
    assert [reply_text(form) for form in forms] == ["Yes"] * 5 + [None] * 2
    (tmp_path / "replies.json").write_text(json.dumps([*forms, {"answer": "Yes"}]))
    with pytest.raises(ValueError, match="entry 8: needs the judge's reply.*'answer'"):
        read_replies(tmp_path / "replies.json")


@pytest.mark.parametrize(("unreadable", "most"), [(1, False), (2, True)])
def test_a_judge_that_answers_nonsense_is_named(unreadable, most):
    lines = unjudged_lines("MM-Vet", [0.5, 0.0, None], unreadable, "they are 0")
    assert any("most replies have no score to read" in line for line in lines) == most


def test_ids_of_one_side_only_are_counted():
    same_ids([1, 2, 2], [2, 1], "grades", "`file`")
    with pytest.raises(ValueError, match="1 grades have an id that `file` does not have, and 2 .* the first is 9"):
        same_ids([1, 9], [1, 2, 3], "grades", "`file`")


def test_sums_per_image_leave_out_what_there_is_not():
    assert per_image(["b", "a", "b"], [1.0, None, 2.0]) == [3.0, 0.0]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
keys = st.sampled_from(
    [
        "content",
        "tuple",
        "score",
        "category",
        "text",
        "reply",
        "choices",
        "message",
        "question_type",
        "id",
        "capability",
    ]
    + ["image", "question_id", "image_id", "model"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4)
)


@pytest.mark.parametrize("name", JUDGED)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=values)
def test_whatever_a_file_holds_is_scored_or_refused_in_one_line(tmp_path, name, content):
    measure, path = BENCHMARKS[name](), tmp_path / "answers.json"
    path.write_text(json.dumps(content))
    try:
        result = measure.score(*measure.read_answers(path), seed=0)
    except ValueError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    else:
        json.dumps([result, measure.published_scores(result)], allow_nan=False)
        assert measure.lines(result) and len(measure.row_scores(result)) >= 1
