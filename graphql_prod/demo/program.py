"""A program that gets SIGTERM in the middle of its work, in a process of its own.

python -m graphql_prod.demo.program {graphql_prod,stock} {aiohttp,httpx}

It begins when it is told the server's URL, in a line on stdin, and prints a line for whatever it has done.
Exit status 0: nothing was lost.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, cast

from aiographql.client import GraphQLRequest

from graphql_prod.client import ProductionClient
from graphql_prod.demo.events import COUNT, number_of
from graphql_prod.demo.stage import make
from graphql_prod.shutdown.coordinator import ShutdownCoordinator

if TYPE_CHECKING:
    from aiographql.client import GraphQLClient, GraphQLSubscriptionEvent

    from graphql_prod.demo.process import Cast
    from graphql_prod.sessions.policy import Backend
    from graphql_prod.shutdown.report import ShutdownReport

CALLS = 4
QUERY = "query Work { hello }"

EVENT_WORK = 0.06
"""Seconds that an event takes; they are worked on one after another, so that others wait."""

LIMIT = 10.0
"""Nobody is left to end the program when the demo was killed."""


async def work(client: GraphQLClient) -> None:
    """Some calls, and a subscription without an end."""
    one_at_a_time = asyncio.Lock()

    async def call() -> None:
        await client.query(QUERY)
        say("answered")

    async def take(event: GraphQLSubscriptionEvent) -> None:
        async with one_at_a_time:
            await asyncio.sleep(EVENT_WORK)
            say(f"event {number_of(event)}")

    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
        for _ in range(CALLS):
            group.create_task(call())
        group.create_task(client.subscribe(GraphQLRequest(COUNT), on_data=take, wait=True))


async def until_told_to_end(client: ProductionClient) -> ShutdownReport:
    """The same, and SIGTERM lets it come to its end."""
    async with ShutdownCoordinator(deadline=5.0) as coordinator:
        coordinator.register(client)
        coordinator.install_signal_handlers()
        await work(client)
    return await coordinator.wait()


async def main(client: GraphQLClient) -> int:
    """Work; returns the exit status."""
    if not isinstance(client, ProductionClient):
        await work(client)
        return 0
    report = await until_told_to_end(client)
    say(f"report {report}")
    return 0 if report.clean else 1


def say(line: str) -> None:
    """Tell the demo."""
    print(line, flush=True)


def _run(name: str, backend: str) -> None:
    if url := sys.stdin.readline().strip():
        sys.exit(asyncio.run(main(make(cast("Cast", name), url, cast("Backend", backend)))))


if __name__ == "__main__":
    _run(*sys.argv[1:])
