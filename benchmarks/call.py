"""CPU time of a call that succeeds at once: ours beside what it stands on, as ratios of one run.

All contenders run in one process, one event loop and against one server, in turn, round after round, so that
a noisy machine is noisy for all of them. The figure is the median over the rounds of CPU seconds a call.

    python -m benchmarks.call [--calls 1000] [--rounds 15] [--tasks 1 20 100]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import gql
import httpx
import orjson
import tenacity
from aiographql.client import GraphQLClient
from aiographql.client.exceptions import GraphQLTransportException
from gql.transport.aiohttp import AIOHTTPTransport

from benchmarks.canned import canned_server
from graphql_prod import ProductionClient

QUERY = "query User($id: ID!) { user(id: $id) { id name tags } }"
VARIABLES = {"id": "42"}
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer token"}

Contender = Callable[[], Awaitable[object]]


def raw(session: aiohttp.ClientSession, url: str) -> Contender:
    """aiohttp and orjson, by hand."""

    async def call() -> object:
        body = orjson.dumps({"query": QUERY, "variables": VARIABLES})
        async with session.post(url, data=body, headers=HEADERS) as response:
            return orjson.loads(await response.read())

    return call


def query_of(client: GraphQLClient) -> Contender:
    """One query through a client."""

    async def call() -> object:
        return await client.query(QUERY, variables=VARIABLES)

    return call


def gql_of(session: Any) -> Contender:
    """One query through gql, whose document is parsed beforehand as its documentation says."""
    document = gql.gql(QUERY)
    document.variable_values = VARIABLES

    async def call() -> object:
        return await session.execute(document)

    return call


def recipe(client: GraphQLClient) -> Contender:
    """The production guide's: tenacity around the stock client."""

    @tenacity.retry(
        stop=tenacity.stop_after_attempt(4),
        wait=tenacity.wait_exponential(multiplier=0.5, max=8),
        retry=tenacity.retry_if_exception_type((GraphQLTransportException, TimeoutError)),
    )
    async def call() -> object:
        return await client.query(QUERY, variables=VARIABLES)

    return call


async def contenders(url: str, tasks: int, stack: AsyncExitStack) -> dict[str, Contender]:
    """Everybody, ready to call."""
    shared = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=tasks))
    )
    plain_httpx = await stack.enter_async_context(httpx.AsyncClient())
    given = await stack.enter_async_context(
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=tasks))
    )
    auth = {"Authorization": "Bearer token"}

    def stock(**options: object) -> GraphQLClient:
        return GraphQLClient(url, headers=auth, validate=False, **options)  # type: ignore[arg-type]

    def ours(**options: object) -> ProductionClient:
        return ProductionClient(url, headers=auth, validate=False, **options)  # type: ignore[arg-type]

    as_constructed = stock()
    stack.push_async_callback(as_constructed.close)
    transport = AIOHTTPTransport(url=url, headers=auth, client_session_args={"trust_env": False})
    peer = await stack.enter_async_context(gql.Client(transport=transport))
    owned = await stack.enter_async_context(ours())
    owned_httpx = await stack.enter_async_context(ours(backend="httpx"))
    return {
        "stock, shared aiohttp session": query_of(stock(session=shared)),
        "raw aiohttp + orjson": raw(shared, url),
        "stock, as constructed": query_of(as_constructed),
        "stock, httpx": query_of(stock(session=plain_httpx)),
        "gql 4": gql_of(peer),
        "guide's recipe (tenacity)": recipe(stock(session=shared)),
        "ours, owned aiohttp": query_of(owned),
        "ours, given aiohttp": query_of(ours(session=given)),
        "ours, owned httpx": query_of(owned_httpx),
    }


async def burst(call: Contender, calls: int, tasks: int) -> float:
    """CPU seconds a call, for so many calls by so many tasks."""

    async def worker(share: int) -> None:
        for _ in range(share):
            await call()

    gc.collect()
    gc.disable()
    begun = time.process_time()
    await asyncio.gather(*(worker(calls // tasks) for _ in range(tasks)))
    spent = time.process_time() - begun
    gc.enable()
    return spent / (calls // tasks * tasks)


async def measure(url: str, tasks: int, calls: int, rounds: int) -> dict[str, float]:
    """The median CPU seconds a call, by contender."""
    async with AsyncExitStack() as stack:
        field = await contenders(url, tasks, stack)
        figures: dict[str, list[float]] = {name: [] for name in field}
        for call in field.values():
            await burst(call, max(tasks, calls // 10), tasks)
        for _ in range(rounds):
            for name, call in field.items():
                figures[name].append(await burst(call, calls, tasks))
    return {name: statistics.median(values) for name, values in figures.items()}


def show(tasks: int, figures: dict[str, float]) -> None:
    """A table of ratios to stock on a shared session."""
    base = figures["stock, shared aiohttp session"]
    print(f"\n{tasks} task{'s' if tasks > 1 else ''} at once")
    for name, figure in figures.items():
        print(f"  {name:32} {figure * 1e6:8.0f} µs   {figure / base:5.2f} x stock")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--calls", type=int, default=600)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--tasks", type=int, nargs="+", default=[1, 20, 100])
    chosen = arguments.parse_args()
    logging.disable()
    print("CPU time a call that succeeds at once: median of interleaved rounds, one process")
    with canned_server() as url:
        for tasks in chosen.tasks:
            show(tasks, asyncio.run(measure(url, tasks, chosen.calls, chosen.rounds)))


if __name__ == "__main__":
    main()
