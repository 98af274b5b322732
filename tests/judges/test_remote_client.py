import asyncio
import contextlib
import itertools
import json
import logging
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from PIL import Image
from support.openai_server import KEY, running_endpoint
from support.tiny import tiny_image

from trl_mm.data.protocols import JudgeUnavailable
from trl_mm.judges.remote_client import ChatClient


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running_endpoint(lambda text, images: f"{text} and {len(images)} images") as endpoint:
        yield endpoint


@pytest.fixture
def make(endpoint, tmp_path):
    """Function that makes a client of the endpoint whose pauses are recorded in `pauses` and not waited for."""

    def make(**settings):
        pauses = []
        client = ChatClient(
            "judge",
            **{"base_url": endpoint.url, "cache_dir": tmp_path / "replies", "sleep": pauses.append, **settings},
        )
        client.pauses = pauses
        return client

    return make


def test_text_and_images_arrive_as_the_protocol_says(endpoint, make):
    client = make(options={"temperature": 0, "max_tokens": 64}, image_format="png")
    image = tiny_image(1)
    assert client.complete([("What is this?", [image]), ("Hello", [])]) == [
        "What is this? and 1 images",
        "Hello and 0 images",
    ]
    with_image, text_only = sorted(endpoint.requests, key=lambda body: isinstance(body["messages"][0]["content"], str))
    assert (with_image["model"], with_image["temperature"], with_image["max_tokens"]) == ("judge", 0, 64)
    (message,) = with_image["messages"]
    assert message["role"] == "user" and [part["type"] for part in message["content"]] == ["image_url", "text"]
    assert message["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert text_only["messages"] == [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(("image_format", "limit"), [("png", 2048), ("jpeg", 2048), ("png", 20), ("jpeg", 20)])
def test_images_keep_their_pixels_or_are_shrunk(endpoint, make, image_format, limit):
    image = Image.new("RGBA", (40, 30), (200, 100, 50, 255))
    seen = []
    endpoint.reply = lambda text, images: seen.extend(images) or "ok"
    make(image_format=image_format, max_image_size=limit).complete([("?", [image])])
    assert seen[0].format.lower() == image_format and seen[0].size == ((40, 30) if limit > 40 else (20, 15))
    assert all(abs(a - b) <= 3 for a, b in zip(seen[0].getpixel((5, 5)), (200, 100, 50), strict=True))
    assert image.size == (40, 30) and image.mode == "RGBA"  # the caller's own is not changed


def test_a_second_run_asks_nothing_twice(endpoint, make):
    questions = [("a", [tiny_image(0)]), ("b", [tiny_image(0)]), ("a", [tiny_image(1)]), ("a", [tiny_image(0)])]
    replies = make().complete(questions)
    assert len(endpoint.requests) == 3, "the same question of one batch is asked once"
    assert make(base_url="http://127.0.0.1:9/v1").complete(questions) == replies, "not even when nothing listens"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    "change", [{"options": {"temperature": 1}}, {"max_image_size": 5}, {"image_format": "png"}, {"model": "other"}]
)
def test_other_settings_are_other_questions(endpoint, make, change):
    make().complete([("a", [tiny_image(0)])])
    client = make(**{name: value for name, value in change.items() if name != "model"})
    client.model = change.get("model", client.model)
    client.complete([("a", [tiny_image(0)])])
    assert len(endpoint.requests) == 2


def test_a_damaged_reply_is_asked_again(endpoint, make, tmp_path):
    make().complete([("a", [])])
    (file,) = (path for path in (tmp_path / "replies").rglob("*") if path.is_file())
    for damage in ("", "{", "[]", '{"reply": 3}'):
        file.write_text(damage)
        assert make().complete([("a", [])]) == ["a and 0 images"]
    assert len(endpoint.requests) == 5 and make().complete([("a", [])]) and len(endpoint.requests) == 5


def test_several_processes_share_the_replies(endpoint, make, tmp_path):
    questions = [(str(index), []) for index in range(20)]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: make().complete(questions), range(4)))
    assert replies == [[f"{text} and 0 images" for text, _ in questions]] * 4
    assert len([path for path in (tmp_path / "replies").rglob("*") if path.is_file()]) == 20, "nothing half written"


@pytest.mark.parametrize("failure", [429, 500, 503, 408, b"<html>busy</html>", b'{"choices": []}', b"{}", b"null"])
def test_what_fails_for_now_is_tried_again_with_growing_pauses(endpoint, make, failure):
    endpoint.failures = [failure] * 3
    client = make()
    assert client.complete([("a", [])]) == ["a and 0 images"]
    assert len(endpoint.requests) == 4
    assert [0.5 <= pause / 2**attempt <= 1 for attempt, pause in enumerate(client.pauses)] == [True] * 3


def test_pauses_are_not_all_the_same(endpoint, make):
    endpoint.failures = [500] * 8
    client = make(max_retries=8, max_delay=1.0)
    client.complete([("a", [])])
    assert len(set(client.pauses)) == 8 and max(client.pauses) <= 1.0


def test_a_pause_that_is_asked_for_is_kept(endpoint, make):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    endpoint.failures = [(429, {"Retry_After": "17"}), (503, {"Retry_After": date}), (429, {"Retry_After": "soon"})]
    client = make()
    client.complete([("a", [])])
    first, second, third = client.pauses
    assert first == 17.0 and 1.0 <= second <= 40.0 and 2.0 <= third <= 4.0


def test_a_pause_that_is_too_long_is_not_waited_for(endpoint, make):
    endpoint.failures = [(429, {"Retry_After": "3600"})]
    client = make()
    with pytest.raises(JudgeUnavailable, match="in 1 attempts, and it asks to wait 3600 seconds. The last: 429"):
        client.complete([("a", [])])
    assert client.pauses == []


def test_a_slow_endpoint_times_out(endpoint, make):
    release = threading.Event()
    endpoint.failures = [lambda: release.wait(30)]
    try:
        assert make(timeout=0.5).complete([("a", [])]) == ["a and 0 images"]
        assert len(endpoint.requests) >= 2  # on a busy machine a good answer may come too late as well
    finally:
        release.set()


def test_an_endpoint_that_is_down_is_named_after_the_last_attempt(endpoint, make, tmp_path):
    endpoint.failures = [500] * 3
    with pytest.raises(
        JudgeUnavailable, match=r"did not answer in 3 attempts. The last: 500: Not now, None. .*replies"
    ):
        make(max_retries=2).complete([("a", [])])
    endpoint.failures = [b"<html>"] * 3
    with pytest.raises(JudgeUnavailable, match="no chat completion: <html>."):
        make(max_retries=2).complete([("a", [])])
    client = make(base_url="http://127.0.0.1:9/v1", max_retries=2)  # the port of `discard`, where nothing listens
    with pytest.raises(JudgeUnavailable, match="127.0.0.1:9/v1/chat/completions cannot be reached: Connect.*base_url"):
        client.complete([("a", [])])
    assert client.pauses == [], "where nobody ever answered, nobody is waited for"
    client._was_reached = True  # a server that is started anew is
    with pytest.raises(JudgeUnavailable, match="did not answer in 3 attempts.*Connect"):
        client.complete([("a", [])])
    assert len(client.pauses) == 2
    assert isinstance(JudgeUnavailable(), OSError), "the command line shows it in one line"


def test_replies_before_a_failure_are_kept_and_nothing_else_is_asked(endpoint, make):
    questions = [(str(index), []) for index in range(10)]
    endpoint.failures = [None] * 4 + [503] * 2
    with pytest.raises(JudgeUnavailable):
        make(max_concurrency=1, max_retries=1).complete(questions)
    assert len(endpoint.requests) in (6, 7), "at most what had begun when the failure was seen"
    assert len(make().complete(questions)) == 10
    assert len(endpoint.requests) <= 12


def test_at_most_so_many_requests_at_a_time(endpoint, make):
    barrier = threading.Barrier(3)
    endpoint.failures = [lambda: barrier.wait(30)] * 6
    make(max_concurrency=3).complete([(str(index), []) for index in range(6)])
    assert endpoint.most_in_flight == 3


def test_questions_are_asked_where_an_event_loop_runs_already(endpoint, make):
    async def notebook():
        return make().complete([("a", [])])

    assert asyncio.run(notebook()) == ["a and 0 images"]


def test_a_wrong_key_is_not_tried_again(endpoint, make, monkeypatch):
    endpoint.key = KEY
    with pytest.raises(ValueError, match="401: .*`OPENAI_API_KEY` is not set: set a valid one"):
        make().complete([("a", [])])
    monkeypatch.setenv("MY_KEY", "sk-another")
    with pytest.raises(ValueError, match="`MY_KEY` is not accepted: set a valid one"):
        make(api_key_variable="MY_KEY").complete([("a", [])])
    assert len(endpoint.requests) == 2
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    assert make(api_key_variable="MY_KEY").complete([("a", [])]) == ["a and 0 images"]


@pytest.mark.parametrize("failures", [[401], [500] * 3, [400], [(429, {"Retry_After": "999"})]])
def test_the_key_is_in_no_error_no_log_and_no_file(endpoint, make, monkeypatch, tmp_path, caplog, failures):
    """The endpoint repeats the key in what it says, as some do."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    endpoint.failures = list(failures)
    client = make(max_retries=2)
    with pytest.raises((ValueError, JudgeUnavailable)) as error:
        client.complete([("a", [])])
    client.complete([("a", [])])
    endpoint.failures = [400]
    assert client.complete([("b", [])]) == [None]  # this one is a warning, which repeats what was said
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    shown = "".join(traceback.format_exception(error.value)) + repr(vars(client)) + caplog.text + written
    assert "***" in shown and "a and 0 images" in written
    assert KEY not in shown


@pytest.mark.parametrize("key", ["sk-ä", "sk-a\nb", "sk-\x07"])
def test_what_cannot_be_a_key_is_refused_without_showing_it(endpoint, make, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="`OPENAI_API_KEY` holds something that is no key") as error:
        make().complete([("a", [])])
    assert key not in str(error.value)


def test_a_question_that_is_refused_is_counted_and_the_others_are_answered(endpoint, make, caplog):
    endpoint.failures = [400]
    replies = make(max_concurrency=1).complete([("a", []), ("b", [])])
    assert replies == [None, "b and 0 images"]
    assert "1 of 2 questions were refused. The first: http" in caplog.text
    assert make().complete([("a", [])]) == ["a and 0 images"], "a refusal is not kept"


def test_an_endpoint_that_refuses_every_question_is_an_error(endpoint, make):
    endpoint.failures = [400] * 2
    with pytest.raises(ValueError, match="400: Not now.*Check that `judge` takes images"):
        make().complete([("a", []), ("b", [])])


@pytest.mark.parametrize(
    ("status", "cure"), [(404, "Check `base_url`"), (405, "Check `base_url`"), (402, "account"), (301, "account")]
)
def test_a_wrong_address_is_not_tried_again(endpoint, make, status, cure):
    endpoint.failures = [status]
    with pytest.raises(ValueError, match=f"{status}: Not now.*{cure}"):
        make().complete([("a", [])])
    assert len(endpoint.requests) == 1


def test_a_question_on_which_the_endpoint_always_fails_is_refused(endpoint, make, caplog):
    endpoint.fails_on = lambda text: "<image>" in text
    questions = [("a", []), ("An <image>", []), ("b", [])]
    replies = make(max_concurrency=1, max_retries=2).complete(questions)
    assert replies == ["a and 0 images", None, "b and 0 images"]
    assert "1 of 3 questions were refused. The first: http" in caplog.text and "answered 500: Internal" in caplog.text
    assert make(max_retries=2).complete(questions) == replies, "the others are kept, and it alone is asked again"


def test_an_endpoint_that_fails_from_some_question_on_is_down(endpoint, make):
    endpoint.fails_on = lambda text: text != "a"
    with pytest.raises(JudgeUnavailable, match="The last: (500|.* Before that: 500): Internal Server Error. Replies"):
        make(max_concurrency=1, max_retries=2).complete([("a", []), ("b", []), ("c", [])])


def test_an_endpoint_that_answers_nothing_may_not_have_the_model(endpoint, make):
    endpoint.fails_on = lambda text: text != "Hello."
    with pytest.raises(JudgeUnavailable, match="It has answered nothing yet: check that it serves `judge`. Replies"):
        make(max_retries=2).complete([("a", [])])


def test_a_connection_that_breaks_is_named(endpoint, make):
    def shut():
        raise ConnectionAbortedError

    endpoint.handle_error = lambda request, address: None
    endpoint.failures = [shut] * 2
    with pytest.raises(JudgeUnavailable, match=r"The last: (Read|RemoteProtocol)Error: [^.]+\. Replies so far"):
        make(max_retries=1).complete([("a", [])])


def test_what_fastapi_says_is_shown(endpoint, make):
    endpoint.error_key, endpoint.failures = "detail", [422]
    with pytest.raises(ValueError, match="answered 422: Not now, None. Check that"):
        make().complete([("a", [])])


def test_no_content_is_an_empty_reply(endpoint, make):
    endpoint.reply = lambda text, images: None
    assert make().complete([("a", [])]) == [""]
    assert make().complete([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000/v1"}, "`base_url` must look like https://host/v1"),
        ({"base_url": "http://me:secret@host/v1"}, "without user, password and query"),
        ({"base_url": "http://host/v1?key=secret"}, "belongs in the environment variable `OPENAI_API_KEY`"),
        ({"base_url": "http://host:port/v1"}, "`base_url`"),
        ({"base_url": "https://api.openai.com/v1"}, "needs a key. Set the environment variable `OPENAI_API_KEY`"),
        ({"image_format": "gif"}, "`image_format` must be one of jpeg, png, got 'gif'"),
        ({"max_concurrency": 0}, "`max_concurrency` must be at least 1, got 0"),
        ({"max_retries": -1}, "`max_retries` must be at least 0"),
        ({"max_image_size": 0}, "`max_image_size` must be at least 1"),
        ({"timeout": 0}, "`timeout` must be positive"),
    ],
)
def test_wrong_settings_are_refused(make, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        make(**settings)
    assert "secret" not in str(error.value)


class Raw:
    """A server that sends what it is given, piece by piece, until the client has enough of it."""

    def __init__(self, pieces):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/v1"
        self.pieces, self.sent = pieces, 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            while True:
                connection, _ = self.socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(30)
                    connection.recv(65536)
                    for piece in self.pieces():
                        connection.sendall(piece)
                        self.sent += len(piece)
        except OSError:  # the test is over
            pass


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def drip(head):
    """Not silent for long, and never at an end."""
    yield head
    for _ in range(600):
        threading.Event().wait(0.05)
        yield b"x"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (lambda: drip(HEAD + b"Content-Length: 9999\r\n\r\n"), "no complete reply in 0.5 seconds"),
        (lambda: drip(b"HTTP/1.1 200 OK\r\nX: "), "no complete reply in 0.5 seconds"),
        (lambda: itertools.chain([HEAD + b"\r\n"], itertools.repeat(b" " * 65536)), "a reply of more than 4 MiB"),
        (lambda: [HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\n "], "a compressed reply"),
    ],
)
def test_a_reply_without_end_is_given_up(make, pieces, message):
    server = Raw(pieces)
    with (
        contextlib.closing(server.socket),
        pytest.raises(JudgeUnavailable, match=f"in 2 attempts. The last: {message}"),
    ):
        # What is too long comes at once; where the time decides, nothing ever comes to an end
        make(base_url=server.url, timeout=0.5 if "seconds" in message else 60, max_retries=1).complete([("a", [])])
    assert server.sent < 64 * 2**20


def test_json_that_is_nested_too_deeply_is_no_reply(endpoint, make):
    endpoint.failures = [b"[" * 200_000 + b"]" * 200_000, b'{"error": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"]
    assert make().complete([("a", [])]) == ["a and 0 images"]
    assert len(endpoint.requests) == 3


def test_half_a_character_is_replaced_before_it_is_kept(endpoint, make, tmp_path):
    endpoint.reply = lambda text, images: "Response 1 \ud83d"
    for _ in range(2):
        assert make().complete([("a", [])]) == ["Response 1 \ufffd"]
    (file,) = (path for path in (tmp_path / "replies").rglob("*") if path.is_file())
    file.write_text('{"reply": "of an earlier run \\ud83d"}')
    assert make().complete([("a", [])]) == ["of an earlier run \ufffd"]


def test_nothing_in_an_error_steers_a_terminal(endpoint, make):
    endpoint.failures = [json.dumps({"error": {"message": "\x1b[2J\x1b]0;title\x07 no"}}).encode()]
    with pytest.raises(JudgeUnavailable) as error:
        make(max_retries=0).complete([("a", [])])
    assert str(error.value).isprintable() and "no" in str(error.value)
