"""An HTTP request with a limit on its whole time and size. The time-outs of httpx2 are for each read, so a server that
sends a byte now and then, or more than memory holds, would never meet one."""

import asyncio
import time
from email.utils import parsedate_to_datetime

import httpx2


MOST_BYTES = 4 * 2**20  # a reply of thousands of tokens with their log-probabilities has less


class BadReply(Exception):
    """What a server sent is too late, too long, or compressed."""


async def bounded_post(
    client: httpx2.AsyncClient, url: str, content: bytes, timeout: float
) -> tuple[int, httpx2.Headers, bytes]:
    """
    Post JSON, and read the reply while it is within bounds.

    Args:
        client (`httpx2.AsyncClient`): what sends it, without time-outs of its own.
        url (`str`): where to.
        content (`bytes`): JSON.
        timeout (`float`): seconds that it may take, from the connection to the last byte of the reply.

    Returns:
        `tuple`: status (`int`), headers, and content (`bytes`).

    Raises:
        BadReply: the reply is not complete in time, too long, or compressed.
        httpx2.RequestError: there is no connection, or it breaks.
    """
    # Not compressed: a small body may unpack to one that no memory holds
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    received = bytearray()
    try:
        async with (
            asyncio.timeout(timeout),
            client.stream("POST", url, content=content, headers=headers, timeout=None) as response,
        ):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise BadReply("a compressed reply, which was not asked for")
            async for part in response.aiter_raw():
                received += part
                if len(received) > MOST_BYTES:
                    raise BadReply(f"a reply of more than {MOST_BYTES // 2**20} MiB")
    except TimeoutError:
        raise BadReply(f"no complete reply in {timeout:g} seconds") from None
    return response.status_code, response.headers, bytes(received)


def retry_after(headers: httpx2.Headers) -> float:
    """Seconds that the endpoint asks to wait, 0.0 if it does not."""
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):  # no date, or one that no clock shows
        return 0.0
