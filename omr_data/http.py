"""HTTP as every client of this package speaks it: one set of rules for retries, secrets and limits.

Three parts use it: the live teacher (`teachers/openai_api`), the Batch API
(`teachers/openai_batch`) and the trainer's sampling server. They differ in what they send. What a
status means, how long to wait, which proxy to take and what must not be printed is the same.

`send` is a whole retrying call for a caller with a few requests. The live teacher has a queue and a
flow control of its own, and takes only the pieces.
"""

import asyncio
import enum
import json
import math
import os
import random
import socket
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from omr_data.errors import OmrError

REPLY_BYTES = 2**26
"""Most bytes of one reply after decompression. A reply of a million tokens has about 8 MB."""
LONGEST_RETRY_AFTER = 3_600.0
"""Seconds. A server that asks for a longer pause is asked again after an hour."""
MASK = "***"
SECRET_LENGTH = 3
"""Shorter values are not masked: hiding each "1" would make an error unreadable."""

T = TypeVar("T")


class HttpError(OmrError):
    """A request could not be answered. `status` is 0 where there was no reply at all."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type["HttpError"], tuple[str, int]]:
        return type(self), (str(self), self.status)


class Meaning(enum.Enum):
    """What a status says about the request that got it."""

    REPLY = "reply"
    """2xx: there is something to read."""
    BUSY = "busy"
    """The server is away or has too much to do. It says nothing about this request."""
    BROKEN = "broken"
    """The server failed at this request. It may pass."""
    ACCESS = "access"
    """Credentials, balance, model name or address are wrong. It holds for every request."""
    POLICY = "policy"
    """A content filter refused the request."""
    REQUEST = "request"
    """This request cannot be served as it was asked."""


# 529 is Anthropic's "overloaded", 425 means that a connection was too young.
BUSY_STATUSES = (408, 425, 429, 502, 503, 504, 529)
# 405, 410 and 421 are what wrong addresses and retired models get.
ACCESS_STATUSES = (401, 402, 403, 404, 405, 407, 410, 421)
ACCESS_CODES = (
    "billing_hard_limit_reached",
    "insufficient_balance",
    "insufficient_quota",
    "invalid_api_key",
    "model_not_found",
)
"""Error codes of hosted providers that mean an ACCESS problem, whatever the status is. OpenAI says
429 for an empty account, which waiting cannot mend."""
POLICY_CODES = ("content_filter", "content_policy_violation", "responsibleaipolicyviolation")


def meaning(status: int, body: bytes = b"") -> Meaning:
    """Tells what a status says about its request.

    Args:
        status: The HTTP status. Redirects are not followed, so they arrive here.
        body: The reply's body. Its error code, if it has one, is more exact than the status.
    """
    if 200 <= status < 300:
        return Meaning.REPLY
    # A gateway's 5xx page may be large, and holds no code of the provider.
    codes = set()
    if status < 500:
        codes = _error_codes(body)
    if codes.intersection(POLICY_CODES):
        return Meaning.POLICY
    # A redirect turns a POST into a GET, so the address itself has to be mended.
    if status in ACCESS_STATUSES or status < 400 or codes.intersection(ACCESS_CODES):
        return Meaning.ACCESS
    if status in BUSY_STATUSES:
        return Meaning.BUSY
    if status >= 500:
        return Meaning.BROKEN
    return Meaning.REQUEST


def _error_codes(body: bytes) -> set[str]:
    """The error codes of a body in OpenAI's shape, in lower case."""
    try:
        error = json.loads(body)["error"]
        found = [error.get("code"), error.get("type")]
        # Azure puts the content filter's code one level deeper.
        inner = error.get("innererror")
        if isinstance(inner, dict):
            found.append(inner.get("code"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return {str(code).lower() for code in found if code is not None}


def retry_after(header: str | None) -> float | None:
    """Reads a Retry-After header as seconds. None where there is none, or it cannot be read."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    # "nan" parses as a float, and no pause can be made of it.
    if math.isnan(seconds):
        return None
    return min(LONGEST_RETRY_AFTER, max(0.0, seconds))


@dataclass(slots=True)
class Pauses:
    """Growing pauses between tries: each is twice the one before, with 20% of jitter."""

    outage: float
    """Seconds after the first failure at which it is given up."""
    first: float = 0.5
    """Seconds of the first pause."""
    longest: float = 60.0
    """Seconds of the longest pause."""
    began: float | None = None
    """When the first failure came, on the monotonic clock. None before it."""
    _next: float = field(default=0.0, repr=False)

    def after_failure(self, asked: float | None = None) -> float | None:
        """Returns the seconds to wait now, or None when the outage has lasted too long.

        Args:
            asked: What the server asked for in Retry-After, in seconds.
        """
        now = time.monotonic()
        if self.began is None:
            self.began = now
        # The server's own wish does not change the pauses that follow it.
        self._next = min(self.longest, max(self.first, 2 * self._next))
        if asked is None:
            # Jitter, so that many clients of one server do not come back at the same moment.
            asked = self._next * random.uniform(0.8, 1.2)
        left = self.began + self.outage - now
        if left <= 0:
            return None
        # The last pause is cut short, so that one try is made at the very end of the outage.
        return min(asked, left)


def retry(call: Callable[[], T], passes: Callable[[Exception], bool], pauses: Pauses) -> T:
    """Calls until it succeeds, for a library that has its own client.

    Args:
        call: What to do.
        passes: Whether an error may pass. Any other one is raised at once.
        pauses: How long to wait between tries, and when to raise the last error.
    """
    while True:
        try:
            return call()
        except Exception as error:
            pause = pauses.after_failure() if passes(error) else None
            if pause is None:
                raise
        time.sleep(pause)


async def send(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    body: Any = None,
    pauses: Pauses,
    secrets: Iterable[str] = (),
) -> bytes:
    """Sends one request and returns the body of its reply. What may pass is tried again.

    Args:
        http: A session of `open_session`.
        method: GET or POST.
        url: The whole URL.
        body: What to send as JSON. None sends no body.
        pauses: How long to wait between tries, and when to give up.
        secrets: Texts that the error must not show.

    Raises:
        HttpError: The server refused the request, or was away for too long.
    """
    while True:
        asked = None
        try:
            async with http.request(
                method, URL(url), json=body, proxy=proxy_of(url), allow_redirects=False
            ) as reply:
                raw = await read_limited(reply)
                status = reply.status
                asked = retry_after(reply.headers.get("Retry-After"))
            found = meaning(status, raw)
            if found is Meaning.REPLY:
                return raw
            fault = f"{status} {raw[:300].decode('utf-8', 'replace')}"
            may_pass = found in (Meaning.BUSY, Meaning.BROKEN)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault, status, may_pass = f"{type(error).__name__}: {error}", 0, True
        # What cannot pass is told at once: waiting would only hide the server's words.
        pause = pauses.after_failure(asked) if may_pass else None
        if pause is None:
            raise HttpError(f"{shown_url(url)}: {redact(fault, secrets)}", status)
        await asyncio.sleep(pause)


async def read_limited(reply: aiohttp.ClientResponse, most: int = REPLY_BYTES) -> bytes:
    """Reads a body, and raises ClientPayloadError for one of more than `most` bytes.

    A few MB of gzip can unpack to many GB. aiohttp unpacks piece by piece, so counting the pieces
    bounds the memory.
    """
    # Nearly all replies take this way: their size is known, so one read is enough.
    if "Content-Encoding" not in reply.headers and (reply.content_length or most) < most:
        return await reply.read()
    pieces, size = [], 0
    async for piece in reply.content.iter_any():
        size += len(piece)
        if size > most:
            # The rest may be endless: the connection cannot be used again.
            reply.close()
            raise aiohttp.ClientPayloadError(f"the reply has more than {most:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def open_session(
    key: str | None = None, timeout: float | None = None, silence: float = 60.0
) -> aiohttp.ClientSession:
    """Opens a connection pool without a limit of its own. Call it inside the event loop.

    Args:
        key: The bearer token, if the server wants one.
        timeout: Seconds that one request may take. None for no limit.
        silence: Seconds after which a connection counts as dead when the other machine does not
            answer the kernel's keep-alive probes. They also keep load balancers from dropping a
            connection on which a long answer is awaited.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"

    def keep_alive(address: Any) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Linux names; elsewhere the system's own intervals hold.
        for name, seconds in (("TCP_KEEPIDLE", silence / 2), ("TCP_KEEPINTVL", silence / 8)):
            if hasattr(socket, name):
                made.setsockopt(
                    socket.IPPROTO_TCP, getattr(socket, name), max(1, min(32_767, int(seconds)))
                )
        if hasattr(socket, "TCP_KEEPCNT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        return made

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, socket_factory=keep_alive),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(30.0, timeout or 30.0)),
        headers=headers,
        # No cookies: keeping them costs a tenth of a request that is answered at once.
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).

    aiohttp's own `trust_env` would also take passwords from ~/.netrc over the key that was given.
    """
    found = urllib.request.getproxies()
    parts = URL(url)
    host = parts.host or ""
    if not found or urllib.request.proxy_bypass(f"{host}:{parts.port}"):
        return None
    return found.get(parts.scheme) or found.get("all")


def join_url(url: str, path: str) -> str:
    """Puts a path below a base URL, before its query: `http://h/v1?api-key=x` keeps its key."""
    base = URL(url, encoded=True)
    # yarl's own joining drops the query, and with it the key of some providers.
    whole = base.with_path(f"{base.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True)
    return str(whole)


def read_key(name: str) -> str | None:
    """Reads a key from the environment. Surrounding white space is dropped.

    Raises:
        HttpError: The value cannot be sent in a header. It is not shown.
    """
    value = os.environ.get(name, "").strip()
    if not (value.isascii() and value.isprintable()):
        raise HttpError(
            f"{name} holds a line break or another character that no HTTP header can carry. "
            "Set it to the key alone (its value is not shown here)."
        )
    return value or None


def shown_url(url: str) -> str:
    """A URL without what may be secret in it: no user, password, query or fragment."""
    try:
        parts = URL(url)
        return str(parts.with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]


def secrets_of(urls: Iterable[str], key: str | None) -> tuple[str, ...]:
    """Texts that no message may show: the key, and users, passwords and query values of URLs."""
    # Query values are taken whole: which of them is a key differs between providers.
    found = [key or ""]
    for url in urls:
        parts = URL(url)
        found += [parts.user or "", parts.password or "", *parts.query.values()]
    return tuple(text for text in found if len(text) >= SECRET_LENGTH)


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with each secret masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
