"""HTTP requests with a limit on their whole time and size. The time-outs of httpx2 are for each read, so a server that
sends a byte now and then, or more than memory holds, would never meet one."""

import asyncio
import threading

import httpx2


MOST_BYTES = 4 * 2**20  # a reply of thousands of tokens with their log-probabilities has less


class BadReply(Exception):
    """What a server sent is too late, too long, or compressed."""


class BoundedClient:
    """
    Posts from any number of threads; requests run in an event loop of its own, which can end them at any point.

    Args:
        headers (`dict[str, str]`): headers of all requests.
        timeout (`float`): seconds that a request may take, from the connection to the last byte of the reply.
        max_connections (`int`): most connections at a time.
    """

    def __init__(self, headers, timeout, max_connections):
        # Not compressed: a small body may unpack to one that no memory holds
        headers = {**headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        limits = httpx2.Limits(max_connections=max_connections)
        self._client = httpx2.AsyncClient(headers=headers, timeout=None, limits=limits)
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._run(self._client.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def post(self, url, content):
        """
        Send a request.

        Args:
            url (`str`): where to.
            content (`bytes`): JSON.

        Returns:
            `tuple`: status (`int`), headers, and content (`bytes`).

        Raises:
            BadReply: the reply is not complete in time, too long, or compressed.
            httpx2.RequestError: there is no connection, or it breaks.
        """
        return self._run(self._post(url, content))

    def _run(self, task):
        return asyncio.run_coroutine_threadsafe(task, self._loop).result()

    async def _post(self, url, content):
        received = bytearray()
        try:
            async with asyncio.timeout(self._timeout), self._client.stream("POST", url, content=content) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise BadReply("a compressed reply, which was not asked for")
                async for part in response.aiter_raw():
                    received += part
                    if len(received) > MOST_BYTES:
                        raise BadReply(f"a reply of more than {MOST_BYTES // 2**20} MiB")
        except TimeoutError:
            raise BadReply(f"no complete reply in {self._timeout:g} seconds") from None
        return response.status_code, response.headers, bytes(received)
