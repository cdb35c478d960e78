"""For test_newborn_tasks.py: a program whose main returns, again and again, under busy subscriptions.

``left_behind.py RUNS BACKEND``: ``asyncio.run()`` cancels what is left, callback workers among it that are
not born yet. Prints ``ended`` when every run came to its end; a thread ends the program if one does not.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from typing import Any

from graphql_prod import ProductionClient
from graphql_prod.testing import ScriptedServer


def served() -> str:
    """The URL of a server in a thread of its own: it goes on while loops come and go."""
    ready, urls = threading.Event(), list[str]()

    async def serve() -> None:
        async with ScriptedServer() as server:
            server.tick = 0.0005
            urls.append(server.url)
            ready.set()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    assert ready.wait(10)
    return urls[0]


async def program(url: str, backend: Any, events: int) -> None:
    """Main: returns in mid-stream, whoever is subscribed."""
    client = ProductionClient(url, backend=backend, validate=False)
    came = asyncio.Event()
    seen: list[object] = []

    def on_data(event: object) -> None:
        seen.append(event)
        if len(seen) >= events:
            came.set()

    async def user() -> None:
        async with await client.subscribe("subscription { count }", on_data=on_data):
            await asyncio.Event().wait()

    users = [asyncio.create_task(user()) for _ in range(4)]
    await came.wait()
    await asyncio.sleep(0.05 + 0.0007 * events)  # a moment of its own in each run
    assert not any(each.done() for each in users)


def main(runs: str, backend: str) -> None:
    faulthandler.dump_traceback_later(float(os.environ.get("LIMIT", "40")), exit=True)
    logging.disable(logging.CRITICAL)
    url = served()
    for run in range(int(runs)):
        asyncio.run(program(url, backend, 4 + run))
    sys.stdout.write("ended\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
