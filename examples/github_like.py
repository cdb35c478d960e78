"""Calls an API that throttles as GitHub does: without settings, and with ``throttling = "github"``."""

import asyncio
import time
from typing import Literal

from graphql_prod import ProductionClient, ProductionConfig
from graphql_prod.testing import FixedWindow, RateLimitedServer

CALLS = 30


async def run(throttling: Literal["off", "github"] | dict[str, str]) -> None:
    async with RateLimitedServer(FixedWindow(limit=20, window=2.0, style="github")) as server:
        config = ProductionConfig(throttling=throttling)
        async with ProductionClient(server.url, validate=False, config=config) as client:
            began = time.monotonic()
            answers = await asyncio.gather(*(client.query("query Viewer { hello }") for _ in range(CALLS)))
            good = sum(1 for answer in answers if answer.data)
            print(f"{throttling}: {good} of {CALLS} answered, {server.refused} refusals")
            print(f"  it took {time.monotonic() - began:.0f} s; {client.stats().throttle}")


async def main() -> None:
    await run("off")  # refused answers come back as ordinary ones
    await run("github")  # refused calls are sent again when the quota is whole
    await run({"preset": "github", "mode": "pace"})  # calls are held back before they are refused


asyncio.run(main())
