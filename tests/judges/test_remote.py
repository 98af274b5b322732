import pytest
from support.openai_server import running_endpoint
from support.tiny import tiny_image

from trl_mm.data.protocols import JudgeUnavailable, PairwiseJudge, judge_pairs
from trl_mm.judges.remote import RemoteJudge


PROMPT = [{"role": "user", "content": "Is there a dog?"}]
PAIRS = [("A red circle.", "No dog."), ("No dog.", "A red circle."), ("Yes.", "It is."), ("same", "same")]


def prefers_a_dog(text, images):
    """Says that the response with a dog is better, and the first one where there is none."""
    assert len(images) == 1
    return f"Better: Response {2 if 'dog' in text.partition('[Response 2]')[2] else 1}\nIt says dog."


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_endpoint(prefers_a_dog) as endpoint:
        yield endpoint


def verdicts(judge, pairs=PAIRS):
    return judge_pairs(judge, [PROMPT] * len(pairs), [[tiny_image(0)]] * len(pairs), pairs)


def test_both_orders_make_a_verdict(endpoint, tmp_path):
    judge = RemoteJudge("judge", endpoint.url, cache_dir=tmp_path)
    assert isinstance(judge, PairwiseJudge)
    found = verdicts(judge)
    assert [(verdict.choice, verdict.outcome) for verdict in found] == [
        (1, "clear"),
        (0, "clear"),
        (None, "inconsistent"),
        (None, "tie"),
    ]
    assert found[2].places == (0, 0) and "It says dog." in found[0].text
    # The second pair is the first one turned round, so its two questions have been asked already
    assert len(endpoint.requests) == 4
    assert judge.judge([PROMPT], [[tiny_image(0)]], PAIRS[:1]) == [1] and len(endpoint.requests) == 4


def test_the_papers_style_asks_once(endpoint, tmp_path):
    judge = RemoteJudge("judge", endpoint.url, style="paper", cache_dir=tmp_path)
    found = verdicts(judge, [("A red circle.", "No dog."), ("No dog.", "A red circle."), ("same", "same")])
    assert [(verdict.choice, verdict.outcome) for verdict in found] == [(1, "clear"), (0, "clear"), (None, "tie")]
    assert {len(verdict.places) for verdict in found[:2]} == {1}
    assert len(endpoint.requests) == 1, "one pair, whichever of its answers is named first"
    assert "Better:" not in endpoint.requests[0]["messages"][0]["content"][-1]["text"]
    with pytest.raises(ValueError, match="`style` must be one of"):
        RemoteJudge("judge", endpoint.url, style="once", cache_dir=tmp_path)


def test_options_replace_those_of_the_request(endpoint, tmp_path):
    options = {"max_tokens": None, "max_completion_tokens": 500, "seed": 1}
    verdicts(RemoteJudge("judge", endpoint.url, cache_dir=tmp_path, max_new_tokens=32), PAIRS[:1])
    verdicts(RemoteJudge("judge", endpoint.url, cache_dir=tmp_path, options=options), PAIRS[:1])
    first, last = endpoint.requests[0], endpoint.requests[-1]
    assert (first["temperature"], first["max_tokens"]) == (0, 32)
    assert (last["temperature"], last["max_completion_tokens"], last["seed"]) == (0, 500, 1)
    assert "max_tokens" not in last


def test_a_question_that_is_refused_makes_the_pair_invalid(endpoint, tmp_path):
    endpoint.failures = [None, 400]
    (verdict,) = verdicts(RemoteJudge("judge", endpoint.url, cache_dir=tmp_path, max_concurrency=1), PAIRS[:1])
    assert verdict.outcome == "invalid"


def test_an_endpoint_that_is_down_is_unavailable(endpoint, tmp_path):
    endpoint.failures = [503] * 9
    judge = RemoteJudge("judge", endpoint.url, cache_dir=tmp_path, max_retries=1, sleep=lambda seconds: None)
    with pytest.raises(JudgeUnavailable):
        verdicts(judge)


def test_a_reply_must_have_room_for_a_verdict():
    with pytest.raises(ValueError, match="`max_new_tokens` must be at least 16"):
        RemoteJudge("judge", "http://localhost/v1", max_new_tokens=8)
