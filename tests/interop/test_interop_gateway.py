"""A real federation gateway: a subgraph that refuses the credentials of a mutation that has begun."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from processes import MODERN, SERVERS, Peer, Server, needs

from graphql_prod import ProductionClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from subscribing import Backend

pytestmark = [pytest.mark.timeout(150), pytest.mark.xdist_group("apollo-gateway")]

GATEWAY = Peer("apollo-gateway", "gateway.mjs", {MODERN: "/graphql"})

MUTATION = "mutation Both($key: String!) { increment(key: $key) notify(key: $key) }"
NULLABLE = "mutation Both($key: String!) { maybeIncrement(key: $key) maybeNotify(key: $key) }"
QUERY = "query Both($key: String!) { order(key: $key) notice(key: $key) }"

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def gateway_process() -> Iterator[Server]:
    """One for all tests."""
    command = GATEWAY.command  # asks for node and its packages first
    needs((SERVERS / "node_modules" / "@apollo" / "gateway").is_dir(), "Apollo Gateway (make interop)")
    assert command
    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        server = Server(GATEWAY, Path(folder))
        yield server
        server.kill()


@pytest.fixture
async def gateway(gateway_process: Server) -> Server:
    if not gateway_process.runs:
        await gateway_process.start()
    return gateway_process


class Tokens:
    """Gives an old token until it is asked for a new one."""

    def __init__(self, old: str) -> None:
        self.old = old
        self.asked: list[bool] = []

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        return {"Authorization": "Bearer new" if refresh else f"Bearer {self.old}"}


class Subject:
    """A client of the gateway, with a key of its own by which the subgraphs' journal tells what ran."""

    def __init__(self, gateway: Server, client: ProductionClient, tokens: Tokens) -> None:
        self.client = client
        self.tokens = tokens
        self.key = f"gateway-{next(_numbers)}"
        self._gateway = gateway

    async def query(self, document: str, **options: Any) -> Any:
        return await self.client.with_options(**options).query(document, variables={"key": self.key})

    def ran(self, what: str) -> int:
        return self._gateway.lines.count(f"{what} {self.key}")


@pytest.fixture(params=["owned", "given"])
def ownership(request: pytest.FixtureRequest) -> Literal["owned", "given"]:
    """Whose session it is."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def connect(
    request: pytest.FixtureRequest,
    gateway: Server,
    backend: Backend,
    ownership: str,
    record_property: Callable[[str, object], None],
) -> AsyncIterator[Callable[[str], Any]]:
    """Makes the client with a token; what it notes is in docs/compatibility.md."""
    record_property("rule", request.function.__doc__)
    record_property("peer", GATEWAY.name)
    record_property("backend", backend)
    async with contextlib.AsyncExitStack() as stack:

        async def connect(old: str) -> Subject:
            given: Any = None
            if ownership == "given":
                given = (
                    aiohttp.ClientSession() if backend == "aiohttp" else httpx.AsyncClient(trust_env=False)
                )
                await stack.enter_async_context(given)
            tokens = Tokens(old)
            client = ProductionClient(
                f"http://127.0.0.1:{gateway.port}/graphql",
                validate=False,
                backend=backend,
                session=given,
                headers_provider=tokens,
            )
            return Subject(gateway, await stack.enter_async_context(client), tokens)

        yield connect


@pytest.mark.parametrize("document", [MUTATION, NULLABLE], ids=["null data", "data"])
async def test_a_mutation_that_has_begun(
    connect: Any, document: str, record_property: Callable[[str, object], None]
) -> None:
    """A subgraph that refuses after another one ran: the mutation is not repeated; its answer comes."""
    subject = await connect("old")
    answer = await subject.query(document)
    assert (subject.ran("increment"), subject.ran("notify")) == (1, 0)
    assert [error.extensions["code"] for error in answer.errors] == ["UNAUTHENTICATED"]
    assert subject.tokens.asked == [False]
    if document is MUTATION:
        # What makes it dangerous: nothing in it says that the other subgraph ran.
        assert answer.json["data"] is None
        assert "path" not in answer.json["errors"][0]
        record_property("says: a subgraph refuses after another one ran", '200, `"data": null`, no path')


async def test_a_mutation_that_is_marked(connect: Any) -> None:
    """One that is marked idempotent is repeated with new credentials, in both subgraphs."""
    subject = await connect("old")
    answer = await subject.query(MUTATION, idempotent=True)
    assert answer.data == {"increment": subject.key, "notify": subject.key}
    assert (subject.ran("increment"), subject.ran("notify")) == (2, 1)
    assert subject.tokens.asked == [False, True]


async def test_a_query(connect: Any) -> None:
    """A query that a subgraph refuses is repeated with new credentials."""
    subject = await connect("old")
    answer = await subject.query(QUERY)
    assert answer.data == {"order": subject.key, "notice": subject.key}
    assert subject.ran("notice") == 1
    assert subject.tokens.asked == [False, True]


async def test_a_mutation_that_the_gateway_refuses(
    connect: Any, record_property: Callable[[str, object], None]
) -> None:
    """One that the gateway itself refuses ran nowhere: it is repeated with new credentials."""
    subject = await connect("expired")
    answer = await subject.query(MUTATION)
    assert answer.data == {"increment": subject.key, "notify": subject.key}
    assert (subject.ran("increment"), subject.ran("notify")) == (1, 1)
    assert subject.tokens.asked == [False, True]
    record_property("says: the gateway itself refuses", "401, no `data`")


async def test_credentials_that_are_good(connect: Any) -> None:
    """With good credentials a mutation runs once in each subgraph, in order."""
    subject = await connect("new")
    answer = await subject.query(MUTATION)
    assert answer.data == {"increment": subject.key, "notify": subject.key}
    assert (subject.ran("increment"), subject.ran("notify")) == (1, 1)
    assert subject.tokens.asked == [False]
