"""An OpenAI-compatible endpoint in memory, on loopback, that says what a test wants."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


KEY = "sk-a-secret-of-this-test"


class Endpoint(ThreadingHTTPServer):
    """
    `reply` is a function from the text of a question and its images to what the model writes. `requests` holds the
    bodies of all requests. `failures` are answers to the next requests instead: a status, a status with headers, bytes
    (an answer that is no chat completion), or a function that is called before the answer is given.

    What `transformers serve` does otherwise: with `error_key = "detail"` a refusal is said as FastAPI says it, and a
    question whose text `fails_on` is true of (there, one that spells an image token) is answered by a bare 500 in
    text, after which the connection is closed without a word.
    """

    daemon_threads = True

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.reply, self.requests, self.failures = reply, [], []
        self.key = None  # that requests must have
        self.error_key, self.fails_on = "error", lambda text: False
        self.lock, self.in_flight, self.most_in_flight = threading.Lock(), 0, 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a client may be silent

    def log_message(self, *args):
        pass

    def answer(self, content, status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:  # the client has given up
            self.close_connection = True

    def refuse(self, status, message, **headers):
        key = self.server.error_key
        self.answer(
            {key: message if key == "detail" else {"message": message, "type": "some_error"}}, status, **headers
        )

    def crash(self):
        self.answer(b"Internal Server Error", 500, Content_Type="text/plain; charset=utf-8")
        self.close_connection = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(body)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            failure = server.failures.pop(0) if server.failures else None
        try:
            self.respond(body, failure)
        finally:
            with server.lock:
                server.in_flight -= 1

    def respond(self, body, failure):
        given = self.headers.get("Authorization")
        if self.path != "/v1/chat/completions":
            return self.refuse(404, "Not Found")
        if self.server.key is not None and given != f"Bearer {self.server.key}":
            return self.refuse(401, f"Incorrect API key provided: {given}")
        if callable(failure):
            failure()
        elif isinstance(failure, bytes):
            return self.answer(failure)
        elif failure is not None:
            status, headers = failure if isinstance(failure, tuple) else (failure, {})
            return self.refuse(status, f"Not now, {given}", **headers)
        text, images = asked(body)
        if self.server.fails_on(text):
            return self.crash()
        content = self.server.reply(text, images)
        message = {"role": "assistant", "content": content}
        self.answer({"object": "chat.completion", "choices": [{"index": 0, "message": message}]})


def asked(body):
    """Text and images (`list[PIL.Image.Image]`) of a request."""
    *_, message = body["messages"]
    if isinstance(message["content"], str):
        return message["content"], []
    *images, text = message["content"]
    urls = [part["image_url"]["url"] for part in images]
    return text["text"], [Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) for url in urls]


@contextmanager
def running_endpoint(reply):
    """An [`Endpoint`] that listens until the block ends."""
    with Endpoint(reply) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join(timeout=10)
