"""A subscription whose server restarts in the middle: the gap is told, and it goes on where it stopped."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from graphql_prod import ProductionClient, SubscriptionClosedError, SubscriptionGap
from graphql_prod.testing import ScriptedServer

COUNT = "subscription Count($from: Int) { count(from: $from) }"


def onward(last: Any, variables: dict[str, Any]) -> dict[str, Any]:
    """Where to go on: with your server after an id, an offset or a time."""
    return variables if last is None else {**variables, "from": last.payload.data["count"] + 1}


async def follow(client: ProductionClient, server: ScriptedServer) -> None:
    numbers: list[int] = []
    gaps: list[SubscriptionGap] = []
    async with aclosing(client.stream(COUNT, gaps=True, resume=onward)) as events:
        async for event in events:
            if isinstance(event, SubscriptionGap):
                gaps.append(event)
                print(f"gap: closed with {event.close_code} ({event.close_reason})")
            else:
                numbers.append(event.json["payload"]["data"]["count"])
            if len(numbers) == 3 and not gaps:
                await server.close_sockets(1012, "restart")
            elif len(numbers) >= 6 and gaps:
                break
    print(f"nothing missing, nothing twice: {numbers == list(range(len(numbers)))}")


async def main() -> None:
    async with ScriptedServer() as server:
        server.tick = 0.01  # seconds between two events
        settings = {"endpoint": server.url, "subscriptions": {"wait_initial": 0.01}}
        async with ProductionClient.from_config(settings, validate=False) as client:
            await follow(client, server)
            server.on_init = lambda _: 4403  # final: it is not tried again
            try:
                await client.subscribe(COUNT)
            except SubscriptionClosedError as error:
                print(f"refused: {error.close_code} ({error.close_reason})")


if __name__ == "__main__":
    asyncio.run(main())
