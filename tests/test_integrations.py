"""Frameworks: the client lives as long as the application, and answers the probes of an orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from subscribing import until

from graphql_prod import ClientClosedError, ConfigurationError, ProductionClient, ProductionConfig
from graphql_prod.integrations import aiohttp_web
from graphql_prod.integrations import starlette as starlette_integration
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

Framework = Literal["starlette", "fastapi", "aiohttp"]

HELLO = {"hello": "Hello, world!"}
SECRET = "s3cr3t"


def client_of(url: str, **settings: Any) -> ProductionClient:
    """A client whose readiness is never remembered."""
    config = ProductionConfig(**{"health": {"min_interval": 0}, **settings})
    return ProductionClient(url, validate=False, config=config)


def held(server: ScriptedServer, calls: int = 1) -> asyncio.Event:
    """The next calls are answered once the event is set."""
    gate = asyncio.Event()
    server.script(*[Answer(gate=gate)] * calls)
    return gate


# Applications on a real port.


@contextlib.asynccontextmanager
async def uvicorn_of(app: Starlette) -> AsyncIterator[str]:
    """The application under uvicorn: where it listens."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="on", log_config=None))
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done(), lambda: "uvicorn to start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)


@contextlib.asynccontextmanager
async def aiohttp_of(app: web.Application) -> AsyncIterator[str]:
    """The application under aiohttp's own runner: where it listens."""
    runner = web.AppRunner(app, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await asyncio.wait_for(runner.cleanup(), 20)


def serving(
    framework: Framework, *clients: ProductionClient, **paths: Any
) -> contextlib.AbstractAsyncContextManager[str]:
    """An application of that framework that owns the clients and answers probes."""
    if framework == "aiohttp":
        web_app = web.Application()
        web_app.cleanup_ctx.append(aiohttp_web.cleanup_ctx(*clients))
        web_app.add_routes(aiohttp_web.health_routes(*clients, **paths))
        return aiohttp_of(web_app)
    kind = Starlette if framework == "starlette" else FastAPI
    app: Starlette = kind(lifespan=starlette_integration.lifespan(*clients))
    app.router.routes.extend(starlette_integration.health_routes(*clients, **paths))
    return uvicorn_of(app)


@contextlib.asynccontextmanager
async def probing(
    framework: Framework, *clients: ProductionClient, **paths: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """What an orchestrator asks that application with."""
    async with serving(framework, *clients, **paths) as url, aiohttp.ClientSession(url) as session:
        yield session


async def probe(session: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    """The status and the body."""
    async with session.get(path) as response:
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, await response.json()


@pytest.fixture(params=["starlette", "fastapi", "aiohttp"])
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each test that asks for it runs once a framework."""
    return request.param  # type: ignore[no-any-return]


# The client's life inside that of an application, without a server around it.


def starlette_life(*clients: ProductionClient) -> contextlib.AbstractAsyncContextManager[object]:
    return starlette_integration.lifespan(*clients)(Starlette())


@contextlib.asynccontextmanager
async def aiohttp_life(*clients: ProductionClient) -> AsyncIterator[None]:
    app = web.Application()
    app.cleanup_ctx.append(aiohttp_web.cleanup_ctx(*clients))
    runner = web.AppRunner(app)
    try:
        await runner.setup()
        yield
    finally:
        await runner.cleanup()


@pytest.fixture(params=[starlette_life, aiohttp_life], ids=["starlette", "aiohttp"])
def life(
    request: pytest.FixtureRequest,
) -> Callable[..., contextlib.AbstractAsyncContextManager[object]]:
    """An application's life, from its start-up to its end."""
    return request.param  # type: ignore[no-any-return]


class TestLife:
    async def test_the_clients_live_as_long_as_the_application(
        self, server: ScriptedServer, framework: Framework
    ) -> None:
        """Open while it serves, closed when it has ended, on a real server of each framework."""
        clients = [client_of(server.url) for _ in range(2)]
        async with serving(framework, *clients):
            assert [client.state for client in clients] == ["open", "open"]
            assert (await clients[0].query("{ hello }")).data == HELLO
        assert [client.state for client in clients] == ["closed", "closed"]

    @pytest.mark.parametrize("count", [1, 3])
    async def test_leaving_waits_for_calls_under_way(
        self,
        server: ScriptedServer,
        life: Callable[..., contextlib.AbstractAsyncContextManager[object]],
        count: int,
    ) -> None:
        """The end is graceful, and all clients drain at the same time."""
        clients = [client_of(server.url) for _ in range(count)]
        gate = held(server, count)
        opened = asyncio.Event()

        async def live() -> None:
            async with life(*clients):
                await opened.wait()

        living = asyncio.create_task(live())
        calls = [asyncio.create_task(client.query("{ hello }")) for client in clients]
        await server.received(count)
        opened.set()
        await until(lambda: all(client.state == "draining" for client in clients), lambda: "draining")
        assert not living.done()
        gate.set()
        assert [response.data for response in await asyncio.gather(*calls)] == [HELLO] * count
        await living
        assert {client.state for client in clients} == {"closed"}

    async def test_the_deadline_is_that_of_the_settings(
        self,
        server: ScriptedServer,
        life: Callable[..., contextlib.AbstractAsyncContextManager[object]],
    ) -> None:
        """``shutdown.deadline`` cuts what is left."""
        client = client_of(server.url, shutdown={"deadline": 0.1})
        server.always(Answer.hang())
        async with life(client):
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            left = time.monotonic()
        assert 0.09 < time.monotonic() - left < 10
        with pytest.raises(ClientClosedError):
            await call

    async def test_several_clients_share_one_deadline(
        self,
        server: ScriptedServer,
        life: Callable[..., contextlib.AbstractAsyncContextManager[object]],
    ) -> None:
        """The whole takes as long as one of them may, not as long as all of them."""
        clients = [client_of(server.url, shutdown={"deadline": 0.5}) for _ in range(4)]
        server.always(Answer.hang())
        async with life(*clients):
            calls = [asyncio.create_task(client.query("{ hello }")) for client in clients]
            await server.received(4)
            left = time.monotonic()
        assert 0.45 < time.monotonic() - left < 1.5
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * 4

    @pytest.mark.parametrize("longest", [60.0, None])
    async def test_of_several_deadlines_the_longest_counts(
        self,
        server: ScriptedServer,
        life: Callable[..., contextlib.AbstractAsyncContextManager[object]],
        longest: float | None,
    ) -> None:
        """No client is cut before the time that its own settings promise; None is for ever."""
        clients = [client_of(server.url, shutdown={"deadline": each}) for each in (longest, 0.05)]
        gate = held(server, 2)
        async with life(*clients):
            calls = [asyncio.create_task(client.query("{ hello }")) for client in clients]
            await server.received(2)
            asyncio.get_running_loop().call_later(0.4, gate.set)
        assert [response.data for response in await asyncio.gather(*calls)] == [HELLO] * 2

    async def test_a_closed_client_is_refused_at_start_up(
        self,
        server: ScriptedServer,
        life: Callable[..., contextlib.AbstractAsyncContextManager[object]],
    ) -> None:
        """An application does not start with a client that can never work; its other clients are closed."""
        usable, closed = client_of(server.url), client_of(server.url)
        await closed.close()
        with pytest.raises(ClientClosedError, match="closed"):
            async with life(usable, closed):
                pytest.fail("it started")
        assert usable.state == "closed"

    async def test_a_view_beside_its_client_is_no_second_client(
        self,
        server: ScriptedServer,
        life: Callable[..., contextlib.AbstractAsyncContextManager[object]],
    ) -> None:
        """They share one life: both are entered, and it ends once."""
        client = client_of(server.url)
        async with life(client, client.with_options(timeout=1.0)):
            assert (await client.query("{ hello }")).data == HELLO
        assert client.state == "closed"


class TestStarlette:
    async def test_inner_begins_after_the_clients_and_ends_before_them(self, server: ScriptedServer) -> None:
        """What the application does at its start and its end may use the clients."""
        client = client_of(server.url)
        seen: list[object] = []

        @contextlib.asynccontextmanager
        async def inner(app: Starlette) -> AsyncIterator[None]:
            seen.append((app, client.state, (await client.query("{ hello }")).data))
            yield
            seen.append((app, client.state, (await client.query("{ hello }")).data))

        app = Starlette(lifespan=starlette_integration.lifespan(client, inner=inner))
        async with uvicorn_of(app):
            assert len(seen) == 1
        assert seen == [(app, "open", HELLO)] * 2
        assert client.state == "closed"

    @pytest.mark.parametrize("kind", [Starlette, FastAPI])
    async def test_the_state_of_inner_reaches_the_requests(
        self, server: ScriptedServer, kind: type[Starlette]
    ) -> None:
        """A mapping that the application's own lifespan yields is passed on as it is."""

        @contextlib.asynccontextmanager
        async def inner(_: object) -> AsyncIterator[dict[str, int]]:
            yield {"answer": 42}

        async def answer(request: Request) -> JSONResponse:
            return JSONResponse(request.state.answer)

        app = kind(
            lifespan=starlette_integration.lifespan(client_of(server.url), inner=inner),
            routes=[Route("/answer", answer)],
        )
        async with (
            uvicorn_of(app) as url,
            aiohttp.ClientSession(url) as session,
            session.get("/answer") as response,
        ):
            assert await response.json() == 42

    async def test_without_a_state_none_is_passed_on(self, server: ScriptedServer) -> None:
        """A server that knows no lifespan state is asked for none."""

        @contextlib.asynccontextmanager
        async def inner(_: object) -> AsyncIterator[None]:
            yield

        for chosen in (None, inner):
            async with starlette_integration.lifespan(client_of(server.url), inner=chosen)(None) as state:
                assert state is None

    async def test_a_start_up_of_inner_that_fails_closes_the_clients(self, server: ScriptedServer) -> None:
        """The server does not start, and nothing of the clients is left open."""
        clients = [client_of(server.url) for _ in range(2)]

        @contextlib.asynccontextmanager
        async def inner(_: object) -> AsyncIterator[None]:
            await clients[0].query("{ hello }")
            raise LookupError("no database")
            yield

        app = Starlette(lifespan=starlette_integration.lifespan(*clients, inner=inner))
        config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="on", log_config=None)
        with pytest.raises(SystemExit):
            await uvicorn.Server(config).serve()
        assert {client.state for client in clients} == {"closed"}

    @pytest.mark.parametrize("how", ["exception", "cancel"])
    @pytest.mark.parametrize("count", [1, 2])
    async def test_leaving_by_an_exception_or_a_cancel_waits_for_nothing(
        self, server: ScriptedServer, how: str, count: int
    ) -> None:
        """Calls under way are cut at once, the clients are closed, and what went wrong comes out."""
        clients = [client_of(server.url) for _ in range(count)]
        server.always(Answer.hang())
        failed = asyncio.Event()

        async def live() -> None:
            async with starlette_life(*clients):
                await failed.wait()
                raise LookupError("body")

        living = asyncio.create_task(live())
        calls = [asyncio.create_task(client.query("{ hello }")) for client in clients]
        await server.received(count)
        if how == "cancel":
            living.cancel()
        failed.set()
        await asyncio.wait({living}, timeout=5)  # the deadline is 25 s
        assert living.done()
        assert living.cancelled() if how == "cancel" else isinstance(living.exception(), LookupError)
        assert {client.state for client in clients} == {"closed"}
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClientClosedError] * count

    def test_an_inner_that_is_no_lifespan_is_refused(self) -> None:
        """A mistake is told where it is made, and not when the server starts."""
        wrong: Any = {"answer": 42}
        with pytest.raises(ConfigurationError, match="inner must be a lifespan, not dict"):
            starlette_integration.lifespan(ProductionClient("http://host/"), inner=wrong)


class TestAiohttp:
    async def test_contexts_appended_later_end_before_the_clients(self, server: ScriptedServer) -> None:
        """What the application does at its start and its end may use the clients."""
        client = client_of(server.url)
        seen: list[object] = []

        async def own(_: web.Application) -> AsyncIterator[None]:
            seen.append((await client.query("{ hello }")).data)
            yield
            seen.append((await client.query("{ hello }")).data)

        app = web.Application()
        app.cleanup_ctx.append(aiohttp_web.cleanup_ctx(client))
        app.cleanup_ctx.append(own)
        async with aiohttp_of(app):
            assert seen == [HELLO]
        assert seen == [HELLO, HELLO]
        assert client.state == "closed"

    @pytest.mark.parametrize("count", [1, 2])
    async def test_a_start_up_that_fails_closes_the_clients(
        self, server: ScriptedServer, count: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """``run_app`` cleans nothing up then, it drops the contexts; the clients are closed all the same."""
        clients = [client_of(server.url) for _ in range(count)]
        reported: list[dict[str, Any]] = []

        async def fails(_: web.Application) -> AsyncIterator[None]:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
            for client in clients:
                await client.query("{ hello }")
            raise LookupError("no database")
            yield

        app = web.Application()
        app.cleanup_ctx.append(aiohttp_web.cleanup_ctx(*clients))
        app.cleanup_ctx.append(fails)

        def run() -> None:  # on a loop of its own, as programs do
            web.run_app(app, print=None, handle_signals=False, port=0)

        with pytest.raises(LookupError, match="no database"):
            await asyncio.to_thread(run)
        assert {client.state for client in clients} == {"closed"}
        assert reported == []
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


class TestReadiness:
    async def test_ready_while_the_servers_answer(self, server: ScriptedServer, framework: Framework) -> None:
        """200 for GET and HEAD, and never out of a cache."""
        async with probing(framework, client_of(server.url), client_of(server.url)) as session:
            assert await probe(session, "/readyz") == (200, {"ready": True})
            async with session.head("/readyz") as response:
                assert response.status == 200
                assert response.headers["Cache-Control"] == "no-store"
                assert await response.read() == b""

    async def test_503_says_which_server_and_why(self, server: ScriptedServer, framework: Framework) -> None:
        """Every client that is not ready is told of, with ``details`` by its host, and nothing secret is."""
        async with ScriptedServer() as down:
            port = down.port
        secret = f"http://user:{SECRET}@127.0.0.1:{port}/graphql?token={SECRET}"
        clients = [client_of(server.url, headers={"Authorization": SECRET}), client_of(secret)]
        async with probing(framework, *clients) as session:
            _, body = await probe(session, "/readyz")
            assert body == {"ready": False, "reasons": [{"reason": "unreachable"}]}, "for anybody: no host"
        clients = [client_of(server.url), client_of(secret)]
        async with probing(framework, *clients, details=True) as session:
            status, body = await probe(session, "/readyz")
            assert (status, body["ready"]) == (503, False)
            (entry,) = body["reasons"]
            assert entry["host"] == f"127.0.0.1:{port}"
            assert entry["reason"]
            assert SECRET not in str(body)
            async with session.head("/readyz") as response:
                assert response.status == 503

    async def test_all_clients_are_asked_at_once(self, server: ScriptedServer, framework: Framework) -> None:
        """A probe takes as long as the slowest, and not as long as all of them."""
        gate = held(server, 3)
        async with probing(framework, *(client_of(server.url) for _ in range(3))) as session:
            asked = asyncio.create_task(probe(session, "/readyz"))
            await server.received(3)
            gate.set()
            assert await asked == (200, {"ready": True})

    async def test_a_draining_client_is_not_ready(self, server: ScriptedServer, framework: Framework) -> None:
        """New traffic goes elsewhere from the first moment on, and nothing is sent to find out."""
        client = client_of(server.url)
        gate = held(server)
        async with probing(framework, client) as session:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            closing = asyncio.create_task(client.shutdown())
            await until(lambda: client.state == "draining", lambda: "draining")
            status, body = await probe(session, "/readyz")
            assert (status, body["ready"]) == (503, False)
            assert body["reasons"] == [{"reason": "draining"}]
            assert await probe(session, "/livez") == (200, {"alive": True})
            assert len(server.requests) == 1
            gate.set()
            assert (await call).data == HELLO
            await closing

    async def test_the_paths_can_be_chosen(self, server: ScriptedServer, framework: Framework) -> None:
        """Names are a matter of taste; what they answer is not. Other methods are refused."""
        async with probing(framework, client_of(server.url), ready="/up", live="/alive") as session:
            assert await probe(session, "/up") == (200, {"ready": True})
            assert await probe(session, "/alive") == (200, {"alive": True})
            async with session.get("/readyz") as response:
                assert response.status == 404
            async with session.post("/up") as response:
                assert response.status == 405


class TestLiveness:
    async def test_alive_while_the_server_is_down(self, framework: Framework) -> None:
        """A restart mends no upstream: liveness does not ask it."""
        async with ScriptedServer() as server:
            client = client_of(server.url)
        async with probing(framework, client) as session:
            assert await probe(session, "/livez") == (200, {"alive": True})
            async with session.head("/livez") as response:
                assert response.status == 200
                assert await response.read() == b""

    async def test_dead_once_a_client_is_closed(self, server: ScriptedServer, framework: Framework) -> None:
        """A closed client never works again: only a restart helps."""
        clients = [client_of(server.url) for _ in range(2)]
        async with probing(framework, *clients) as session:
            await clients[1].close()
            assert await probe(session, "/livez") == (503, {"alive": False})
            status, body = await probe(session, "/readyz")
            assert status == 503
            assert body["reasons"] == [{"reason": "draining"}]


class TestArguments:
    @pytest.mark.parametrize(
        "taking",
        [
            starlette_integration.lifespan,
            starlette_integration.health_routes,
            aiohttp_web.cleanup_ctx,
            aiohttp_web.health_routes,
        ],
        ids=["lifespan", "starlette routes", "cleanup_ctx", "aiohttp routes"],
    )
    def test_wrong_arguments_are_refused_at_once(self, taking: Any) -> None:
        """Where they are given, and not at the first probe or at start-up."""
        with pytest.raises(ConfigurationError, match="expected at least one ProductionClient"):
            taking()
        with pytest.raises(
            ConfigurationError, match="expected a ProductionClient, or a function that makes one, not str"
        ):
            taking(ProductionClient("http://host/"), "http://host/")
        with pytest.raises(
            ConfigurationError, match="expected a ProductionClient, or a function that makes one, not type"
        ):
            taking(ProductionClient)


class TestImports:
    @staticmethod
    def run(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def test_importing_the_package_imports_no_framework(self) -> None:
        """Who does not use one does not pay for one."""
        told = self.run(
            "import sys, graphql_prod\n"
            "heavy = ('starlette', 'fastapi', 'uvicorn', 'aiohttp.web', 'graphql_prod.integrations')\n"
            "print([name for name in heavy if name in sys.modules])"
        )
        assert told == "[]"

    def test_a_missing_framework_is_named_with_what_to_do(self) -> None:
        """The text says which extra to install; the other framework's module does not care."""
        told = self.run(
            "import sys\n"
            "sys.modules['starlette'] = None\n"
            "import graphql_prod.integrations.aiohttp_web\n"
            "try:\n"
            "    import graphql_prod.integrations.starlette\n"
            "except ImportError as error:\n"
            "    print(error)"
        )
        assert told == (
            "graphql_prod.integrations.starlette needs starlette: pip install 'graphql-prod[starlette]'"
        )


class TestFactories:
    """An application that is started twice makes its clients twice."""

    async def test_starlette(self, server: ScriptedServer) -> None:
        """Routes for probes look at the client that serves now."""
        made: list[ProductionClient] = []

        def factory() -> ProductionClient:
            made.append(ProductionClient(server.url, validate=False))
            return made[-1]

        app = Starlette(
            lifespan=starlette_integration.lifespan(factory),
            routes=starlette_integration.health_routes(factory),
        )
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as probe:
            assert (await probe.get("/readyz")).json() == {
                "ready": False,
                "reasons": [{"reason": "not started"}],
            }
            assert (await probe.get("/livez")).status_code == 200
            for times in (1, 2):
                async with app.router.lifespan_context(app):
                    assert len(made) == times
                    assert (await made[-1].query("{ hello }")).data
                    assert (await probe.get("/readyz")).status_code == 200
                assert made[-1].state == "closed"

    async def test_aiohttp(self, server: ScriptedServer) -> None:
        """The same under aiohttp's server."""
        made: list[ProductionClient] = []

        def factory() -> ProductionClient:
            made.append(ProductionClient(server.url, validate=False))
            return made[-1]

        for times in (1, 2):
            app = web.Application()
            app.cleanup_ctx.append(aiohttp_web.cleanup_ctx(factory))
            app.add_routes(aiohttp_web.health_routes(factory))
            runner = web.AppRunner(app)
            await runner.setup()
            assert len(made) == times
            assert (await made[-1].query("{ hello }")).data
            await runner.cleanup()
            assert made[-1].state == "closed"

    async def test_a_factory_that_makes_something_else(self) -> None:
        """It is named at start-up."""
        app = Starlette(lifespan=starlette_integration.lifespan(lambda: "a client"))  # type: ignore[arg-type, return-value]
        with pytest.raises(ConfigurationError, match="must return a ProductionClient"):
            async with app.router.lifespan_context(app):
                pass
