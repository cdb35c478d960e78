"""Readiness and liveness: one small query, shared, bounded, and honest about what it found."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLTransport
from subscribing import until

from graphql_prod import (
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    Readiness,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from aiographql.client.transport import GraphQLSession

Backend = Literal["aiohttp", "httpx"]

SECRET = "s3cr3t"
ENDING = re.compile("draining|closing|closed")
HELLO = {"hello": "Hello, world!"}

# What a server may say in the place of an answer, and what becomes of it.
ANSWERS: dict[str, tuple[Answer, str]] = {
    "401": (Answer.page(401, f"<html>{SECRET}</html>"), "answered 401 Unauthorized"),
    "503": (Answer.page(503, SECRET, headers={"Retry-After": "1", "X-Key": SECRET}), "answered 503 Service"),
    "500 and GraphQL errors": (Answer.graphql(500, errors=[SECRET]), "GraphQL errors"),
    "a login page": (Answer.page(200, f"<form>{SECRET}</form>"), "answered 200 with a body (text/html)"),
    "JSON of another kind": (Answer(body={"status": SECRET}), "no GraphQL answer"),
    "an empty body": (Answer(body=b""), "no GraphQL answer"),
    "GraphQL errors": (Answer.graphql(errors=[f"no\n{SECRET}"]), "answered with GraphQL errors"),
    "partial data": (
        Answer.graphql(data={"__typename": "Query"}, errors=[{"message": SECRET, "path": ["x"]}]),
        "answered with GraphQL errors",
    ),
    "errors with keys of their own": (
        Answer.graphql(errors=[{"message": SECRET, "trace-id": SECRET, "class": 1}]),
        "answered with GraphQL errors",
    ),
    "errors of another kind": (Answer(body={"errors": [SECRET]}), ""),
    "a redirect": (Answer.redirect(f"https://u:{SECRET}@elsewhere/?token={SECRET}"), "answered 302 Found"),
    "a close": (Answer.disconnect(), "closed the connection"),
    "a reset": (Answer.reset("body", body=SECRET), "closed the connection"),
    "no HTTP": (Answer.garbage(), ""),
}


@contextlib.asynccontextmanager
async def session_of(backend: Backend) -> AsyncIterator[GraphQLSession]:
    """A caller's own session."""
    if backend == "aiohttp":
        async with aiohttp.ClientSession() as session:
            yield session
    else:
        async with httpx.AsyncClient() as client:
            yield client


def client_of(
    url: str, backend: Backend | None = None, min_interval: float = 0, **objects: Any
) -> ProductionClient:
    """A client that asks each time; it would validate, and retry, if a probe were an ordinary call."""
    config = ProductionConfig(
        health={"min_interval": min_interval}, retry={"attempts": 5, "wait_initial": 0.01}
    )
    return ProductionClient(url, backend=backend, config=config, **objects)


def told(found: Readiness) -> str:
    """The reason of one that is not ready: one line, and nothing secret in it."""
    assert (found.ok, bool(found)) == (False, False)
    assert found.reason
    assert found.reason.isprintable()
    assert SECRET not in repr(found)
    return found.reason


async def asked(
    client: ProductionClient, n: int, timeout: float | None = None
) -> list[asyncio.Task[Readiness]]:
    """So many probes that wait."""
    tasks = [asyncio.create_task(client.ready(timeout)) for _ in range(n)]
    await asyncio.sleep(0)
    return tasks


@contextlib.asynccontextmanager
async def another_loop() -> AsyncIterator[Callable[[Coroutine[Any, Any, Any]], asyncio.Future[Any]]]:
    """What runs a coroutine on a loop in another thread."""
    loop = asyncio.new_event_loop()
    thread = asyncio.create_task(asyncio.to_thread(loop.run_forever))
    try:
        yield lambda work: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        await thread
        loop.close()


class TestFindings:
    @pytest.mark.parametrize("owner", ["owned", "given"])
    async def test_a_server_that_answers(self, server: ScriptedServer, backend: Backend, owner: str) -> None:
        """Ready: one query, unvalidated (no introspection before it), with the time that it took."""
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(session_of(backend)) if owner == "given" else None
            client = await stack.enter_async_context(client_of(server.url, backend, session=session))
            server.script(Answer(delay=0.05))
            before = time.monotonic()
            found = await client.ready()
            assert found
            assert (found.ok, found.reason) == (True, None)
            assert found.latency is not None
            assert 0.05 <= found.latency <= time.monotonic() - before
            assert [request.query for request in server.requests] == ["{ __typename }"]

    @pytest.mark.parametrize("owner", ["owned", "given"])
    async def test_whatever_it_says_instead(
        self, server: ScriptedServer, backend: Backend, owner: str
    ) -> None:
        """Nothing raises, nothing is asked twice, and no reason repeats its words or a secret."""
        url = server.url.replace("://", f"://user:{SECRET}@") + f"?token={SECRET}"
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(session_of(backend)) if owner == "given" else None
            headers = {"X-Key": SECRET}
            client = client_of(url, backend, session=session, headers=headers)
            await stack.enter_async_context(client)
            for n, (what, (answer, reason)) in enumerate(ANSWERS.items(), 1):
                server.script(answer)
                found = await client.ready()
                assert reason in told(found), what
                assert found.latency is not None
                assert len(server.requests) == n, what
            assert await client.ready()  # and it has not been spoilt for the next

    async def test_a_server_that_is_down(self, backend: Backend) -> None:
        """Refused: not ready, and ready again when it is up, without a new client; alive all the time."""
        async with ScriptedServer() as server:
            client = client_of(server.url, backend)
            await server.stop()
            assert "could not be reached" in told(await client.ready())
            assert client.alive()
            await server.start()
            assert await client.ready()
            await client.close()

    async def test_a_server_that_is_silent(self, server: ScriptedServer, backend: Backend) -> None:
        """The probe and its query end after the 2 s of PROBE; a call would have 30, a read 10."""
        server.script(Answer.hang())
        async with client_of(server.url, backend) as client:
            started = time.monotonic()
            found = await client.ready()
            assert "answer" in told(found)
            assert found.latency is not None
            assert 1.5 < found.latency <= time.monotonic() - started < 8
            await server.abandoned(1, timeout=5)
        assert len(server.requests) == 1

    async def test_a_network_that_is_silent(self, server: ScriptedServer, backend: Backend) -> None:
        """Whoever is in more of a hurry says so, and is not held up by what never comes."""
        async with FaultyProxy(server.port) as proxy, client_of(proxy.url_for(), backend) as client:
            proxy.blackhole = True
            found = await client.ready(0.05)
            assert "gave no answer within 0.05 s" in told(found)
            assert found.latency == 0.05
        assert server.requests == []

    async def test_a_timeout_longer_than_the_default_is_granted(self, server: ScriptedServer) -> None:
        """``timeout`` is how long to wait for the answer: 2.5 s are within 20."""
        server.script(Answer(delay=2.5))
        async with client_of(server.url) as client:
            assert await client.ready(20)

    async def test_code_of_the_program_that_fails(self, server: ScriptedServer) -> None:
        """What its transport or its provider of headers raises is not repeated: only its kind is told."""

        def fail(*_: Any, **__: Any) -> Any:
            raise LookupError(f"no\n{SECRET}")

        class Broken(GraphQLTransport):
            request = fail

            async def close(self) -> None: ...

        for objects in ({"transport": Broken()}, {"headers_provider": fail}):
            async with client_of(server.url, **objects) as client:
                assert "failed with a LookupError" in told(await client.ready()).replace("with L", "with a L")
        assert server.requests == []

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "2", [2]], ids=repr)
    async def test_a_timeout_that_is_none(self, server: ScriptedServer, timeout: Any) -> None:
        """A mistake of the program's own does raise, and sends nothing."""
        async with client_of(server.url) as client:
            with pytest.raises(ConfigurationError, match="timeout must be a number of seconds over 0"):
                await client.ready(timeout)
        assert server.requests == []


class TestSharing:
    async def test_probes_that_come_together_share_one_query(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A hundred, from the client and its views alike."""
        gate = asyncio.Event()
        server.always(Answer(gate=gate))
        async with client_of(server.url, backend) as client:
            view = client.with_options(timeout=9, headers={"X-View": "1"})
            probes = [*await asked(client, 50), *await asked(view, 50)]
            await server.received(1)
            gate.set()
            found = await asyncio.gather(*probes)
            assert all(found)
            assert len({id(each) for each in found}) == 1
        assert len(server.requests) == 1

    @pytest.mark.parametrize("answer", [Answer(), Answer.page(503)], ids=["ready", "not ready"])
    async def test_a_storm_gets_the_last_result(self, server: ScriptedServer, answer: Answer) -> None:
        """Within ``min_interval`` nothing more is sent, whatever the result was; 0 asks each time."""
        server.always(answer)
        async with client_of(server.url, min_interval=60) as client:
            first = await client.ready()
            assert [await client.ready() for _ in range(50)] == [first] * 50
            assert len(server.requests) == 1
        async with client_of(server.url, min_interval=0) as client:
            for _ in range(5):
                await client.ready()
        assert len(server.requests) == 6

    async def test_after_the_interval_it_is_asked_again(self, server: ScriptedServer) -> None:
        """What has changed is seen."""
        async with client_of(server.url, min_interval=0.05) as client:
            assert await client.ready()
            server.always(Answer.page(503))
            async with asyncio.timeout(10):
                while await client.ready():
                    await asyncio.sleep(0.01)
        assert len(server.requests) == 2

    async def test_a_probe_that_is_given_up_takes_nobody_with_it(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Cancelled or out of time, the first or a later one: the others get the answer of the one query."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        async with client_of(server.url, backend) as client:
            first, hasty, second = [(await asked(client, 1, timeout))[0] for timeout in (None, 0.01, 9)]
            await server.received(1)
            first.cancel()
            found = await hasty
            assert "gave no answer within 0.01 s" in told(found)
            assert found.latency == 0.01
            (third,) = await asked(client, 1)
            gate.set()
            assert await second
            assert await third
            assert first.cancelled()
        assert len(server.requests) == 1

    async def test_a_query_outlives_all_that_asked_for_it(self, server: ScriptedServer) -> None:
        """Impatient probes that come and go do not send one each; what it finds counts for the next."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        async with client_of(server.url, min_interval=60) as client:
            for _ in range(5):
                told(await client.ready(0.01))
            gate.set()
            assert await client.ready()
        assert len(server.requests) == 1

    async def test_two_loops_disturb_each_other_not(self, server: ScriptedServer) -> None:
        """A query cannot be shared across loops: one each, however often they ask in turns."""
        gate = asyncio.Event()
        server.always(Answer(gate=gate))
        client = client_of(server.url)
        async with another_loop() as run:

            async def ask() -> list[asyncio.Future[Readiness]]:
                probes = [*await asked(client, 1), run(client.ready())]
                await run(asyncio.sleep(0))
                return probes

            probes = await ask()
            await server.received(2)
            for _ in range(3):
                probes += await ask()
            gate.set()
            assert all(await asyncio.gather(*probes))
            assert len(server.requests) == 2
            server.always(Answer.hang())
            probes = await ask()
            await server.received(4)
            report = await client.shutdown()
            assert all(ENDING.search(told(found)) for found in await asyncio.gather(*probes))
            assert report.duration < 1.5  # PROBE has 2 s
            assert (report.requests_completed, report.requests_cancelled) == (0, 0)


class TestEnd:
    async def test_the_end_of_a_client(self, server: ScriptedServer, backend: Backend) -> None:
        """Draining: alive but not ready; closed: neither. Nothing is sent to find that out."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        client = client_of(server.url, backend, validate=False)
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        closing = asyncio.create_task(client.shutdown())
        await until(lambda: client.state == "draining")
        found = await client.ready()
        assert "draining" in told(found)
        assert found.latency is None
        assert client.alive()
        gate.set()
        assert (await call).data == HELLO
        await closing
        found = await client.ready()
        assert "closed" in told(found)
        assert (found.latency, client.alive()) == (None, False)
        assert client.with_options(timeout=1).alive() is False
        assert len(server.requests) == 1

    @pytest.mark.parametrize("deadline", [20, 0], ids=["drain", "cut"])
    async def test_a_probe_under_way_hears_of_it_at_once(
        self, server: ScriptedServer, backend: Backend, deadline: float
    ) -> None:
        """And is no call that the shutdown waits for, or counts."""
        server.always(Answer.hang())
        client = client_of(server.url, backend)
        probes = await asked(client, 3, 60)
        await server.received(1)
        report = await client.shutdown(deadline)
        for found in await asyncio.gather(*probes):
            assert ENDING.search(told(found))
        assert report.clean
        assert report.duration < 1.5
        assert (report.requests_completed, report.requests_cancelled) == (0, 0)


class TestSettings:
    def test_from_a_file_and_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both groups, by their names; the environment wins, and "none" is no limit."""
        file = tmp_path / "client.toml"
        file.write_text(
            'endpoint = "http://h/"\n[health]\nmin_interval = 5\n[shutdown]\ndeadline = 10\n',
            encoding="utf-8",
        )
        config = ProductionClient.from_config(file).config
        assert (config.health.min_interval, config.shutdown.deadline) == (5, 10)
        monkeypatch.setenv("GRAPHQL_PROD_HEALTH__MIN_INTERVAL", "0")
        monkeypatch.setenv("GRAPHQL_PROD_SHUTDOWN__DEADLINE", "none")
        config = ProductionClient.from_config(file).config
        assert (config.health.min_interval, config.shutdown.deadline) == (0, None)
        monkeypatch.setenv("GRAPHQL_PROD_HEALTH__MIN_INTERVAL", "-1")
        monkeypatch.setenv("GRAPHQL_PROD_SHUTDOWN__DEADLINE", "nan")
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient.from_config(file)
        for name in ("2 problems", "HEALTH__MIN_INTERVAL", "SHUTDOWN__DEADLINE"):
            assert name in str(caught.value)
