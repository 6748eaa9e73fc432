"""Tells a long answer from a dead server.

An endpoint that sends nothing for `silence` seconds is asked for its list of models, which any
living server answers in some way. After two questions without any reply, what is in flight there is
given up. It costs one small request a minute, where streaming would cost an event for each token.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import aiohttp
from yarl import URL

from omr_data.http import join_url
from omr_data.teachers.openai_api.endpoints import Endpoint


async def listen(
    http: aiohttp.ClientSession,
    endpoints: Sequence[Endpoint],
    proxies: Mapping[str, str | None],
    silence: float,
    give_up: Callable[[Endpoint], None],
) -> None:
    """Watches endpoints until it is cancelled.

    Args:
        http: The connection pool.
        endpoints: What is watched.
        proxies: The proxy of each URL.
        silence: Seconds without a reply after which an endpoint is asked.
        give_up: Called with an endpoint that is dead.
    """
    deaf = dict.fromkeys((endpoint.url for endpoint in endpoints), 0)
    while True:
        await asyncio.sleep(silence / 2)
        for endpoint in endpoints:
            # An idle endpoint owes no answer, and is not asked.
            if not endpoint.in_flight or time.monotonic() - endpoint.heard_at < silence:
                deaf[endpoint.url] = 0
                continue
            # Two in a row, because one question can be lost on a busy network.
            deaf[endpoint.url] += 1
            if await is_alive(http, endpoint, proxies[endpoint.url], silence):
                deaf[endpoint.url] = 0
            elif deaf[endpoint.url] >= 2:
                give_up(endpoint)


async def is_alive(
    http: aiohttp.ClientSession, endpoint: Endpoint, proxy: str | None, silence: float
) -> bool:
    """Whether an endpoint answers anything at all.

    Args:
        http: The connection pool.
        endpoint: The endpoint.
        proxy: Its proxy, if there is one.
        silence: Seconds to wait for the answer.
    """
    limit = aiohttp.ClientTimeout(total=silence)
    url = URL(join_url(endpoint.url, "models"), encoded=True)
    try:
        # Any status will do: it is a living process that says 401 or 404.
        async with http.get(url, timeout=limit, proxy=proxy, allow_redirects=False):
            return True
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
