"""A subscriber whose server floods it: waits until it was told of the loss and has an event after it.

Arguments: the URL, the backend, "own" or "given", seconds to wait. Prints one line of JSON: the growth
of its memory in MiB, and what it was told.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import aiohttp
import httpx

from graphql_prod import ProductionClient, ProductionConfig, SubscriptionGap


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(url: str, backend: Any, whose: str, seconds: str) -> None:
    session: Any = None
    if whose == "given":
        session, backend = (aiohttp.ClientSession() if backend == "aiohttp" else httpx.AsyncClient()), None
    config = ProductionConfig(
        max_response_bytes=1024 * 1024, subscriptions={"wait_initial": 0.01, "wait_max": 0.02}
    )
    client = ProductionClient(url, validate=False, backend=backend, session=session, config=config)
    told: list[str | None] = []
    before = peak()
    try:
        async with asyncio.timeout(float(seconds)):
            events = client.stream("subscription { count }", gaps=True)
            async for event in events:
                if not isinstance(event, SubscriptionGap):
                    break
                told.append(event.close_reason)
    except TimeoutError:
        told.append("nothing")
    sys.stdout.write(json.dumps({"grown": peak() - before, "told": told}))
    await client.shutdown(0)
    if session is not None:
        await (session.close() if isinstance(session, aiohttp.ClientSession) else session.aclose())


asyncio.run(main(*sys.argv[1:]))
