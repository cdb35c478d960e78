"""A GraphQL server to try the services against: ``python upstream.py [port]``, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys

from graphql_prod.testing import ScriptedServer


async def main(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with ScriptedServer(port=port) as server:
        server.tick = 1.0  # seconds between two events of the subscription `count`
        print(f"GraphQL, HTTP and WebSocket: {server.url}", flush=True)
        await stop.wait()
        await server.close_sockets(1001)  # going away: clients reconnect


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8900))
