"""The schema policy where programs do what nobody thought of: subclasses, patches, forks, the collector."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientValidationException, GraphQLIntrospectionException
from aiographql.client.transport import AiohttpTransport
from schema_world import (
    ADD,
    HELLO,
    HELLO_DATA,
    INTROSPECTION,
    ONCE,
    WRONG,
    Watched,
    asked,
    client_of,
    requested,
)

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    SchemaPolicy,
    TimeoutPolicy,
)
from graphql_prod.runtime.garbage import no_full_collection
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from aiographql.client import GraphQLResponse

OFF = Answer.graphql(400, errors=["introspection is off"])


class Delegating(ProductionClient):
    """Has its schema from another client."""

    admin: ProductionClient

    async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
        return await self.admin.get_schema()


class TestAnotherClient:
    async def test_brings_the_schema(self, server: ScriptedServer) -> None:
        """Its calls are its own: validated, counted, limited."""
        async with (
            ScriptedServer() as other,
            client_of(other.url) as admin,
            Delegating(server.url) as client,
        ):
            client.admin = admin
            assert (await client.query(HELLO)).data == HELLO_DATA
            assert asked(server) == 0
            with pytest.raises(GraphQLClientValidationException):
                await admin.query(WRONG)

    async def test_holds_its_own_deadline(self, server: ScriptedServer) -> None:
        """Inside an introspection of the first too."""
        async with ScriptedServer() as other:
            other.always(Answer.hang())
            limits = TimeoutPolicy(total=0.3)
            config = ProductionConfig(retry=ONCE, timeout=limits, schema=SchemaPolicy(mode="strict"))
            async with (
                ProductionClient(other.url, config=config) as admin,
                Delegating(server.url) as client,
            ):
                client.admin = admin
                with pytest.raises(RequestTimeoutError) as caught:
                    await client.query(HELLO)
        assert other.url.split("/")[2] in str(caught.value)

    async def test_that_is_closed_stays_closed(self, server: ScriptedServer) -> None:
        """A flight of somebody else's opens nothing."""
        async with client_of(server.url) as admin:
            pass
        async with Delegating(server.url) as client:
            client.admin = admin
            with pytest.raises(ClientClosedError):
                await client.query(HELLO)
        assert server.requests == []


class Itself(ProductionClient):
    async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
        return await self.get_schema()


class Cancelled(ProductionClient):
    async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
        raise asyncio.CancelledError


@pytest.mark.parametrize("kind", [Itself, Cancelled])
async def test_an_introspection_of_a_users_own_that_cannot_work(
    server: ScriptedServer, kind: type[ProductionClient]
) -> None:
    """Is told to whoever waits, and not as the end of the client."""
    async with kind(server.url) as client:
        with pytest.raises(GraphQLIntrospectionException):
            await client.query(HELLO)


class Wrapping(ProductionClient):
    async def get_schema(
        self, refresh: bool = False, headers: dict[str, str] | None = None
    ) -> graphql.GraphQLSchema:
        return await super().get_schema(refresh=refresh, headers=headers)


async def test_auto_with_a_get_schema_of_a_users_own(server: ScriptedServer) -> None:
    """Goes on unvalidated after one introspection, as without."""
    server.always(OFF, INTROSPECTION)
    config = ProductionConfig(retry=ONCE)
    async with Wrapping(server.url, config=config) as client:
        for _ in range(3):
            assert (await client.query(HELLO)).data == HELLO_DATA
    assert asked(server) == 1


@pytest.mark.parametrize("name", ["introspect", "get_schema"])
async def test_a_method_put_in_the_place_of_ours(server: ScriptedServer, name: str) -> None:
    """Is the one that is used, as with the stock client: tests of programs do that."""
    schema = graphql.build_schema("type Query { nothing: Int }")

    async def mine(*_: Any, **__: Any) -> graphql.GraphQLSchema:
        return schema

    async with client_of(server.url) as client:
        setattr(client, name, mine)
        await client.validate(requested(WRONG))
        with pytest.raises(GraphQLClientValidationException):
            await client.validate(requested(HELLO))
    assert server.requests == []


@pytest.mark.parametrize("what", ["get_schema", "validate", "query"])
async def test_a_views_headers(server: ScriptedServer, what: str) -> None:
    """Go with the introspection that the view begins."""
    async with client_of(server.url) as client:
        view = client.with_options(headers={"X-Tenant": "t"})
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "get_schema": lambda: view.get_schema(),
            "validate": lambda: view.validate(requested(HELLO)),
            "query": lambda: view.query(HELLO),
        }
        await acts[what]()
    assert server.requests[0].headers["X-Tenant"] == "t"


async def test_a_refusal_behind_a_transport_that_hides_the_status(server: ScriptedServer) -> None:
    """Counts as one for now."""

    class Other:
        def __init__(self, inner: AiohttpTransport) -> None:
            self.inner = inner

        async def request(self, *args: Any, **options: Any) -> GraphQLResponse:
            return await self.inner.request(*args, **options)

        async def close(self) -> None:
            await self.inner.close()

    server.always(Answer.graphql(400, errors=["off"], media_type="application/json"), INTROSPECTION)
    transport: Any = Other(AiohttpTransport(server.url))
    async with ProductionClient(
        server.url, transport=transport, config=ProductionConfig(retry=ONCE)
    ) as client:
        for _ in range(2):
            assert (await client.query(HELLO)).data == HELLO_DATA
    assert asked(server) == 1


async def test_a_schema_that_nothing_can_be_asked_of(server: ScriptedServer) -> None:
    """Is none: with mode auto calls go on, and are not all refused."""
    schema: dict[str, Any] = {
        "queryType": None,
        "mutationType": None,
        "subscriptionType": None,
        "types": [],
        "directives": [],
    }
    server.always(Answer.graphql(data={"__schema": schema}), INTROSPECTION)
    async with client_of(server.url, mode="auto") as client:
        assert (await client.query(HELLO)).data == HELLO_DATA


@pytest.mark.parametrize(
    "text",
    [
        "type Query { a: Int @deprecated(reason: 5) }",
        '{"data": ' * 5000,
        '{"__schema": ' + "9" * 5000 + "}",
        json.dumps({"__schema": {"queryType": None, "types": [], "directives": []}}),
    ],
    ids=["argument", "deep", "number", "no query type"],
)
async def test_files_that_are_broken_in_odd_ways(server: ScriptedServer, tmp_path: Path, text: str) -> None:
    """Are named, as others are."""
    file = tmp_path / "schema"
    file.write_text(text, "utf-8")
    async with client_of(server.url, file=file) as client:
        with pytest.raises(ConfigurationError, match=r"schema\.file"):
            await client.query(HELLO)


async def test_a_file_that_is_none(server: ScriptedServer, tmp_path: Path) -> None:
    """A pipe that nobody writes to does not stop all validation."""
    os.mkfifo(tmp_path / "pipe")
    async with client_of(server.url, file=tmp_path / "pipe") as client:
        with pytest.raises(ConfigurationError, match="no regular file"):
            await client.query(HELLO)


async def test_a_file_with_half_a_character(server: ScriptedServer, tmp_path: Path) -> None:
    """Descriptions that were cut in the middle of an emoji are no reason to refuse a schema."""
    data = dict(graphql.introspection_from_schema(graphql.build_schema(SDL)))
    (tmp_path / "schema.json").write_text(json.dumps(data).replace("Answers", "\\ud83d Answers"), "utf-8")
    async with client_of(server.url, file=tmp_path / "schema.json") as client:
        assert (await client.query(HELLO)).data == HELLO_DATA


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_during_a_validation(tmp_path: Path) -> None:
    """The child validates that document too, though the thread that had begun is not there."""
    watched = Watched()
    client = ProductionClient("http://127.0.0.1:1/", schema=watched.schema)
    request = requested('{ echo(value: "1") }')
    watched.gate.clear()
    waiting = threading.Thread(target=lambda: asyncio.run(client.validate(request)))
    waiting.start()
    while not watched.seen:
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        watched.gate.set()
        asyncio.run(client.validate(request))
        os._exit(7)
    _, status = os.waitpid(child, 0)
    watched.gate.set()
    waiting.join()
    assert os.waitstatus_to_exitcode(status) == 7


class TestCollector:
    def test_is_given_back(self) -> None:
        """Its thresholds are what they were; what a program sets meanwhile stays."""
        before = gc.get_threshold()
        with no_full_collection(), no_full_collection():
            assert gc.get_threshold()[2] > 1_000_000
        assert gc.get_threshold() == before
        with no_full_collection():
            gc.set_threshold(701, 11, 12)
        assert gc.get_threshold() == (701, 11, 12)
        gc.set_threshold(*before)

    def test_thresholds_that_a_program_saved_while_they_were_ours(self) -> None:
        """Do no lasting harm."""
        before = gc.get_threshold()
        with no_full_collection():
            saved = gc.get_threshold()
        gc.set_threshold(*saved)
        with no_full_collection():
            pass
        assert gc.get_threshold() == before

    def test_is_not_kept_out_for_long(self) -> None:
        """A flood of new documents is no leak: after five seconds all is as ever."""
        program = (
            "import gc, time\n"
            "from graphql_prod.runtime.garbage import no_full_collection\n"
            "before = gc.get_threshold()\n"
            "with no_full_collection():\n"
            "    end = time.monotonic() + 20\n"
            "    while gc.get_threshold() != before and time.monotonic() < end:\n"
            "        kept = [[] for _ in range(1000)]\n"
            "    assert gc.get_threshold() == before\n"
        )
        assert subprocess.run([sys.executable, "-c", program], timeout=40, check=False).returncode == 0


async def test_a_task_that_an_introspection_leaves_behind(server: ScriptedServer) -> None:
    """Is a call like any other once the introspection is over."""
    left: list[asyncio.Task[GraphQLResponse]] = []

    class Leaving(ProductionClient):
        async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
            async def later() -> GraphQLResponse:
                await over.wait()
                return await self.query(ADD)

            left.append(asyncio.create_task(later()))
            return await super().introspect(headers=headers)

    over = asyncio.Event()
    gate = asyncio.Event()
    server.on("Add", Answer(gate=gate))
    async with Leaving(server.url) as client:
        await client.query(HELLO)
        over.set()
        await server.received(3)
        assert client.stats().in_flight == 1
        gate.set()
        assert (await left[0]).data == {"increment": 1}
