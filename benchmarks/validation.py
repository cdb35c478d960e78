"""Price of validation: ours beside the stock client and gql, on a small schema and on GitHub's public one.

    python -m benchmarks.validation [--sdl FILE] [--only calls document first crowd] [--rounds 80]

calls     CPU time of a call whose document is known already, contenders in turn in one process
document  the event loop's longest pause while a new document of 200 kB is validated
first     the first call of a program against GitHub's schema, each contender in fresh processes
crowd     the same by 50 tasks at once

GitHub's SDL comes from the npm package @octokit/graphql-schema: with npm it is fetched once into build/.
graphql-core does not think it valid, so that the stock client raises TypeError at each validation; "told that
the schema is valid" is a stock client that was spared that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import multiprocessing
import re
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp
import gql
import graphql
import orjson
from aiographql.client import GraphQLClient, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport

from benchmarks.call import QUERY, VARIABLES, Contender, burst
from benchmarks.canned_schema import canned_schema, github, introspections
from benchmarks.memory import resident
from graphql_prod import ProductionClient, ProductionConfig, SchemaPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

PARTS = ("calls", "document", "first", "crowd")
STRICT = SchemaPolicy(mode="strict")
OFF = SchemaPolicy(mode="off")
VALIDATING = ("stock, validate=True", "gql 4, local schema")
"""Those who validate at each call."""

ISSUES = """
query Issues($owner: String!, $name: String!, $after: String) {
  repository(owner: $owner, name: $name) {
    id
    nameWithOwner
    issues(first: 50, after: $after, states: [OPEN], orderBy: { field: UPDATED_AT, direction: DESC }) {
      totalCount
      pageInfo { hasNextPage endCursor }
      nodes { ...Issue labels(first: 10) { nodes { name color } } }
    }
  }
  rateLimit { cost remaining resetAt }
}
fragment Issue on Issue { number title state url updatedAt author { login ... on User { name company } } }
"""
PLACE = {"owner": "python", "name": "cpython"}


class Lenient(GraphQLClient):
    """The stock client, told that the schema is valid."""

    async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
        query = graphql.get_introspection_query(descriptions=False)
        request = GraphQLRequest(query, validate=False, headers=headers or {})
        answer: Any = (await self.query(request)).data
        return graphql.build_client_schema(answer, assume_valid=True)


def ours(url: str, schema: SchemaPolicy, **options: Any) -> ProductionClient:
    """Our client with a policy."""
    return ProductionClient(url, config=ProductionConfig(schema=schema), **options)


def caller(client: GraphQLClient, document: str, variables: dict[str, Any]) -> Contender:
    """One query through a client."""

    async def call() -> object:
        return await client.query(document, variables=variables)

    return call


async def gql_caller(
    stack: AsyncExitStack, url: str, document: str, variables: dict[str, Any], **options: Any
) -> Contender:
    """One query through gql, parsed beforehand as its documentation says."""
    transport = AIOHTTPTransport(url=url)
    session: Any = await stack.enter_async_context(gql.Client(transport=transport, **options))
    parsed = gql.gql(document)
    parsed.variable_values = variables

    async def call() -> object:
        return await session.execute(parsed)

    return call


# calls


async def knowing(
    url: str, document: str, variables: dict[str, Any], stack: AsyncExitStack
) -> dict[str, Contender]:
    """Everybody, with the schema at hand."""

    async def session() -> aiohttp.ClientSession:
        return await stack.enter_async_context(aiohttp.ClientSession())

    schema = await Lenient(url, session=await session()).introspect()
    shared = await session()
    off = ours(url, OFF, session=await session())
    strict = ours(url, STRICT, session=await session())
    owned = await stack.enter_async_context(ours(url, STRICT))
    for client in (off, strict):
        stack.push_async_callback(client.close)
    clients: dict[str, GraphQLClient] = {
        "ours, off": off,
        "ours, strict": strict,
        "ours, strict, owned session": owned,
        "ours, strict, in a view": strict.with_options(timeout=20.0),
        "stock, validate=False": GraphQLClient(url, session=shared, validate=False),
        "stock, validate=True": GraphQLClient(url, session=shared, schema=schema),
    }
    field = {name: caller(client, document, variables) for name, client in clients.items()}
    return field | {
        "gql 4": await gql_caller(stack, url, document, variables),
        "gql 4, local schema": await gql_caller(stack, url, document, variables, schema=schema),
    }


async def price(
    url: str, document: str, variables: dict[str, Any], calls: int, rounds: int
) -> dict[str, list[float]]:
    """CPU seconds a call in each round, by contender."""
    async with AsyncExitStack() as stack:
        field = await knowing(url, document, variables, stack)
        figures: dict[str, list[float]] = {name: [] for name in field}
        for call in field.values():
            await burst(call, 30, 1)
        gc.collect()
        gc.freeze()  # schemas are big, and each round collects
        quick = [name for name in field if name not in VALIDATING]
        for number in range(rounds):
            turn = number % len(quick)
            for name in quick[turn:] + quick[:turn]:
                figures[name].append(await burst(field[name], calls, 1))
        for _ in range(max(3, rounds // 10)):  # by themselves: whoever comes next would find cold caches
            for name in VALIDATING:
                figures[name].append(await burst(field[name], calls // 2, 1))
        gc.unfreeze()
    return figures


def calls(urls: dict[str, str], chosen: argparse.Namespace) -> None:
    """Print what a call costs whose document is known."""
    subjects = {"a small schema": (QUERY, VARIABLES), "GitHub's schema": (ISSUES, PLACE)}
    for title, url in urls.items():
        figures = asyncio.run(price(url, *subjects[title], chosen.calls, chosen.rounds))
        stock = statistics.median(figures["stock, validate=True"])
        print(f"\nCPU time of a call whose document is known, {title}")
        for name, values in figures.items():
            median = statistics.median(values)
            # Pairs of one round where there are such.
            ratios = [mine / off for mine, off in zip(values, figures["ours, off"], strict=False)]
            print(
                f"  {name:30} {median * 1e6:8.0f} µs   {statistics.median(ratios):6.3f} x ours, off"
                f"   {median / stock:6.3f} x stock, validate=True"
            )


# document


class Pulse:
    """The longest time for which the event loop let nobody else run, in seconds."""

    STEP = 0.001

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Pulse:
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0.02)
        self.longest = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(2 * self.STEP)
        self._task.cancel()

    async def _beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(self.STEP)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last - self.STEP)
            last = now


def big_document(number: int, size: int) -> str:
    """A document of so many bytes that nobody has seen."""
    fields = (f'f{n}: user(id: "{number}-{n}") {{ id name tags }} ' for n in range(size // 30))
    text = f"query Big{number} {{ "
    for field in fields:
        if len(text) + len(field) > size:
            break
        text += field
    return text + "}"


class Documents(NamedTuple):
    """What one contender took for a new document, in each round."""

    pauses: list[float]
    seconds: list[float]


async def new_documents(url: str, size: int, rounds: int) -> dict[str, Documents]:
    """Pauses and time, by contender; a round has a document of its own for each."""
    async with AsyncExitStack() as stack:
        schema = await Lenient(
            url, session=await stack.enter_async_context(aiohttp.ClientSession())
        ).introspect()
        off = await stack.enter_async_context(ours(url, OFF))
        strict = await stack.enter_async_context(ours(url, STRICT))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        stock = GraphQLClient(url, session=session, schema=schema)
        peer: Any = await stack.enter_async_context(
            gql.Client(transport=AIOHTTPTransport(url=url), schema=schema)
        )

        async def by_gql(document: str) -> object:
            return await peer.execute(gql.gql(document))

        field: dict[str, Callable[[str], Awaitable[object]]] = {
            "ours, off": off.query,
            "ours, strict": strict.query,
            "stock, validate=True": stock.query,
            "gql 4, local schema": by_gql,
        }
        found = {name: Documents([], []) for name in field}
        for number in range(-1, rounds):
            for name, call in field.items():
                document = big_document(max(number, 0), size if number >= 0 else 200)
                gc.collect()
                async with Pulse() as pulse:
                    begun = time.perf_counter()
                    await call(document)
                    seconds = time.perf_counter() - begun
                if number >= 0:
                    found[name].pauses.append(pulse.longest)
                    found[name].seconds.append(seconds)
        return found


def document(urls: dict[str, str], chosen: argparse.Namespace) -> None:
    """Print how long a new document holds the loop up."""
    found = asyncio.run(new_documents(urls["a small schema"], 200_000, chosen.fresh))
    print("\nA new document of 200 kB: the event loop's longest pause, and until the answer is there")
    for name, figures in found.items():
        print(
            f"  {name:30} {statistics.median(figures.pauses) * 1e3:8.0f} ms"
            f"   (to {max(figures.pauses) * 1e3:.0f})"
            f"   {statistics.median(figures.seconds) * 1e3:8.0f} ms"
        )


# first, crowd


class First(NamedTuple):
    """What a first call took, in seconds, and MiB over what was resident before.

    :ivar collection: what a full garbage collection takes ever after.
    """

    wall: float
    cpu: float
    pause: float
    collection: float
    kept: float
    peak: float
    error: str


FIRST = {
    "ours, off": "off",
    "stock, validate=True": "stock",
    "stock, told that the schema is valid": "lenient",
    "gql 4, schema from transport": "gql",
    "ours, strict": "strict",
    "ours, file= of introspection": "json",
    "ours, file= of SDL": "sdl",
}
CROWD = ("stock, told that the schema is valid", "ours, strict")


async def newcomer(kind: str, url: str, files: Path, stack: AsyncExitStack) -> Contender:
    """A client that has called nothing yet."""
    if kind == "gql":

        async def call() -> object:
            client = gql.Client(transport=AIOHTTPTransport(url=url), fetch_schema_from_transport=True)
            session: Any = await stack.enter_async_context(client)
            return await session.execute(gql.gql(ISSUES))

        return call
    policies = {
        "off": OFF,
        "strict": STRICT,
        "json": SchemaPolicy(mode="strict", file=files / "github.json"),
        "sdl": SchemaPolicy(mode="strict", file=files / "github.graphql"),
    }
    if kind in policies:
        return caller(await stack.enter_async_context(ours(url, policies[kind])), ISSUES, PLACE)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    stock = Lenient if kind == "lenient" else GraphQLClient
    return caller(stock(url, session=session), ISSUES, PLACE)


def high_water() -> float:
    """MiB of this process that ever were in memory at once."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


async def _first(kind: str, url: str, files: Path, tasks: int) -> First:
    async with AsyncExitStack() as stack:
        call = await newcomer(kind, url, files, stack)
        before = resident()
        async with Pulse() as pulse:
            wall, cpu = time.perf_counter(), time.process_time()
            outcomes = await asyncio.gather(*(call() for _ in range(tasks)), return_exceptions=True)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = high_water() - before
        errors = {type(outcome).__name__ for outcome in outcomes if isinstance(outcome, BaseException)}
        del outcomes
        kept = resident() - before
        begun = time.perf_counter()
        gc.collect()
        collection = time.perf_counter() - begun
        return First(wall, cpu, pulse.longest, collection, kept, peak, ", ".join(sorted(errors)))


def first_call(kind: str, url: str, files: Path, tasks: int) -> First:
    """By so many tasks at once; to be called in a fresh process."""
    logging.disable()
    return asyncio.run(_first(kind, url, files, tasks))


def write_files(url: str, folder: Path) -> None:
    """The schema as an introspection and as SDL."""

    async def answer() -> Any:
        async with aiohttp.ClientSession() as session:
            client = GraphQLClient(url, session=session, validate=False)
            return (await client.query(graphql.get_introspection_query(descriptions=False))).data

    data = asyncio.run(answer())
    (folder / "github.json").write_bytes(orjson.dumps({"data": data}))
    schema = graphql.build_client_schema(data, assume_valid=True)
    (folder / "github.graphql").write_text(graphql.print_schema(schema), encoding="utf-8")


def newcomers(names: Sequence[str], url: str, tasks: int, rounds: int) -> None:
    """Measure and print first calls, interleaved."""
    found: dict[str, list[First]] = {name: [] for name in names}
    asked: dict[str, int] = {}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        write_files(url, Path(folder))
        for _ in range(rounds):
            for name in names:
                before = introspections(url)
                with ProcessPoolExecutor(1, spawn) as fresh:
                    job = fresh.submit(first_call, FIRST[name], url, Path(folder), tasks)
                    found[name].append(job.result())
                asked[name] = introspections(url) - before
    print(
        f"  {'':38} {'wall':>9} {'CPU':>9} {'longest pause':>14} {'full GC':>9} {'kept':>9} {'peak':>9}"
        "  introspections"
    )
    for name, figures in found.items():
        columns = [statistics.median(column) for column in list(zip(*figures, strict=True))[:-1]]
        wall, cpu, pause, collection = (seconds * 1e3 for seconds in columns[:4])
        kept, peak = columns[4:]
        error = f"  ({figures[0].error})" if figures[0].error else ""
        print(
            f"  {name:38} {wall:6.0f} ms {cpu:6.0f} ms {pause:11.0f} ms {collection:6.0f} ms"
            f" {kept:5.1f} MiB {peak:5.1f} MiB  {asked[name]}{error}"
        )


def first(urls: dict[str, str], chosen: argparse.Namespace) -> None:
    """Print what the first call of a program takes."""
    if url := urls.get("GitHub's schema"):
        print("\nThe first call against GitHub's schema; memory over what was resident before")
        newcomers(list(FIRST), url, 1, chosen.fresh)


def crowd(urls: dict[str, str], chosen: argparse.Namespace) -> None:
    """Print the same for many tasks at once."""
    if url := urls.get("GitHub's schema"):
        print("\n50 first calls at once against GitHub's schema")
        newcomers(CROWD, url, 50, max(1, chosen.fresh // 2))


@contextlib.contextmanager
def servers(chosen: argparse.Namespace) -> Iterator[dict[str, str]]:
    """The URL of a server with each schema."""
    with contextlib.ExitStack() as stack:
        urls = {"a small schema": stack.enter_context(canned_schema())}
        if set(chosen.only) != {"document"} and (sdl := github(chosen.sdl)) is not None:
            urls["GitHub's schema"] = stack.enter_context(canned_schema(sdl))
        yield urls


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sdl", type=Path, help="GitHub's schema.graphql, instead of fetching it")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=80, help="of known documents")
    parser.add_argument("--fresh", type=int, default=5, help="rounds of new documents and first calls")
    chosen = parser.parse_args(arguments)
    logging.disable()
    parts = {"calls": calls, "document": document, "first": first, "crowd": crowd}
    with servers(chosen) as urls:
        for part in chosen.only:
            parts[part](urls, chosen)


if __name__ == "__main__":
    main()
