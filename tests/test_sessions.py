"""Sessions: ours are opened at first use and closed; a caller's is used and left as it was."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLClientException
from aiographql.client.transport import AiohttpTransport, HttpxTransport

import graphql_prod
from graphql_prod import (
    ConfigurationError,
    HTTPStatusError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiographql.client.transport import GraphQLSession

Backend = Literal["aiohttp", "httpx"]
Owner = Literal["owned", "given"]

HELLO = {"hello": "Hello, world!"}
ONCE = RetryPolicy(attempts=1)
OTHER: dict[Backend, Backend] = {"aiohttp": "httpx", "httpx": "aiohttp"}


@pytest.fixture
async def proxy(server: ScriptedServer) -> AsyncIterator[FaultyProxy]:
    """A look at the connections to the server: how many were made, how many are open."""
    async with FaultyProxy(server.port) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def http_session(backend: Backend, **options: Any) -> AsyncIterator[GraphQLSession]:
    """A caller's session."""
    if backend == "aiohttp":
        async with aiohttp.ClientSession(**options) as session:
            yield session
    else:
        async with httpx.AsyncClient(verify=False, **options) as client:
            yield client


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, owner: Owner = "owned", **arguments: Any
) -> AsyncIterator[ProductionClient]:
    """A client that does not validate, over a session of ours or of the test's."""
    arguments = {"validate": False, "config": ProductionConfig(retry=ONCE), **arguments}
    if owner == "owned":
        async with ProductionClient(url, backend=backend, **arguments) as client:
            yield client
    else:
        async with (
            http_session(backend) as session,
            ProductionClient(url, session=session, **arguments) as client,
        ):
            yield client


def is_closed(session: GraphQLSession) -> bool:
    """Whether its owner, or somebody else, closed it."""
    return session.is_closed if isinstance(session, httpx.AsyncClient) else session.closed


class TestOwned:
    async def test_constructing_needs_no_loop_and_does_no_io(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A client may be a module's global; the session is opened at first use."""
        client = await asyncio.to_thread(ProductionClient, server.url, validate=False, backend=backend)
        assert server.connections == 0
        assert client.stats().pool.limit == 0
        async with client:
            assert server.connections == 0
            assert (await client.query("{ hello }")).data == HELLO
            assert server.connections == 1
            assert client.stats().pool.limit == 120

    async def test_connections_are_kept_alive(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """F6: many calls, one connection."""
        async with client_of(server.url, backend, owner) as client:
            for _ in range(20):
                await client.query("{ hello }")
            view = client.with_options(timeout=5, headers={"X-View": "1"})
            await view.query("{ hello }")
        assert len({request.peer for request in server.requests}) == 1
        assert server.connections == 1

    async def test_close_closes_the_connections(
        self, server: ScriptedServer, proxy: FaultyProxy, backend: Backend
    ) -> None:
        """Nothing stays open after ``close()``."""
        client = ProductionClient(proxy.url_for(), validate=False, backend=backend)
        await asyncio.gather(*(client.query("{ hello }") for _ in range(5)))
        assert proxy.open >= 1
        await client.close()
        await proxy.until(lambda: proxy.open == 0)
        assert client.stats().pool.limit == 0

    async def test_an_idle_connection_is_dropped_in_time(
        self, server: ScriptedServer, proxy: FaultyProxy, backend: Backend
    ) -> None:
        """Kept for ``pool.keepalive`` seconds, then closed by us, before the server does it."""
        config = ProductionConfig(pool=PoolPolicy(keepalive=0.2), retry=ONCE)
        async with client_of(proxy.url_for(), backend, config=config) as client:
            await client.query("{ hello }")
            assert proxy.open == 1
            await proxy.until(lambda: proxy.open == 0, timeout=5)
            assert (await client.query("{ hello }")).data == HELLO
            assert proxy.accepted == 2

    async def test_a_connection_kept_for_no_time_is_dropped_at_once(
        self, server: ScriptedServer, proxy: FaultyProxy, backend: Backend
    ) -> None:
        """``keepalive=0`` is allowed, and means what it says."""
        config = ProductionConfig(pool=PoolPolicy(keepalive=0), retry=ONCE)
        async with client_of(proxy.url_for(), backend, config=config) as client:
            await client.query("{ hello }")
            await proxy.until(lambda: proxy.open == 0, timeout=2)
            assert (await client.query("{ hello }")).data == HELLO

    async def test_cookies_are_not_kept(self, server: ScriptedServer, backend: Backend) -> None:
        """One tenant's cookie never goes out with another tenant's call."""
        server.always(Answer(headers={"Set-Cookie": "tenant=one; Path=/"}))
        async with client_of(server.url, backend) as client:
            for _ in range(3):
                await client.query("{ hello }")
        assert len(server.requests) == 3
        assert not [request for request in server.requests if "Cookie" in request.headers]

    async def test_the_user_agent_names_us_and_the_stock(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Who looks into the server's log finds both versions."""
        async with client_of(server.url, backend) as client:
            await client.query("{ hello }")
        stock = version("aiographql-client")
        expected = f"graphql_prod/{graphql_prod.__version__} aiographql-client/{stock}"
        assert server.requests[0].headers.getall("User-Agent") == [expected]  # type: ignore[attr-defined]

    @pytest.mark.parametrize("name", ["User-Agent", "user-agent"])
    async def test_the_user_agent_may_be_another(
        self, server: ScriptedServer, backend: Backend, name: str
    ) -> None:
        """``headers=`` replaces it for the client, for a view and for one call, in any spelling."""
        async with client_of(server.url, backend, headers={name: "shop/1"}) as client:
            await client.query("{ hello }")
            await client.with_options(headers={name: "shop/2"}).query("{ hello }")
            await client.query("{ hello }", headers={name: "shop/3"})
        found = [request.headers.getall("User-Agent") for request in server.requests]  # type: ignore[attr-defined]
        assert found == [["shop/1"], ["shop/2"], ["shop/3"]]

    async def test_the_environments_proxy_is_not_used(
        self, server: ScriptedServer, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing about our sessions comes from the environment unless asked for."""
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        async with client_of(server.url, backend) as client:
            assert (await client.query("{ hello }")).data == HELLO

    @pytest.mark.parametrize("scheme", ["ws", "WS"])
    async def test_a_websocket_endpoint_takes_queries(
        self, server: ScriptedServer, backend: Backend, owner: Owner, scheme: str
    ) -> None:
        """``ws://`` is the same endpoint over ``http://``."""
        url = f"{scheme}://127.0.0.1:{server.port}/graphql"
        async with client_of(url, backend, owner, validate=True) as client:
            assert (await client.query("{ hello }")).data == HELLO
            assert client.endpoint == url

    async def test_credentials_in_the_endpoint_are_sent_as_basic_authentication(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """As both libraries, and the stock client over them, do."""
        url = f"http://user:password@127.0.0.1:{server.port}/graphql"
        async with client_of(url, backend, owner) as client:
            assert (await client.query("{ hello }")).data == HELLO
        assert server.requests[0].headers["Authorization"] == "Basic dXNlcjpwYXNzd29yZA=="


class TestWarning:
    async def test_a_client_collected_with_its_session_open_warns(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """ResourceWarning says what to do, and shows nothing secret; the connection goes all the same."""
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # aiohttp tells the loop as well
        async with FaultyProxy(server.port) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/graphql?key=hunter2"
            client = ProductionClient(url, validate=False, backend=backend)
            view = client.with_options(timeout=5)
            await view.query("{ hello }")
            told: list[tuple[type[Warning], str]] = []
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del client, view
                for _ in range(3):
                    gc.collect()
                    told += [(each.category, str(each.message)) for each in caught]
                    caught.clear()  # a record keeps its source alive
            ours = [(kind, text) for kind, text in told if "ProductionClient" in text]
            assert [kind for kind, _ in ours] == [ResourceWarning]
            assert "async with client" in ours[0][1]
            assert "hunter" not in "".join(text for _, text in told)
            await proxy.until(lambda: proxy.open == 0, timeout=2)

    async def test_a_client_never_used_does_not_warn(self, backend: Backend) -> None:
        """No session, no warning."""
        client = ProductionClient("http://127.0.0.1:1/graphql", backend=backend)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client
            gc.collect()
        assert caught == []

    async def test_a_closed_client_does_not_warn(self, server: ScriptedServer, backend: Backend) -> None:
        """Closed is closed."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        await client.query("{ hello }")
        await client.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del client
            gc.collect()
        assert caught == []

    async def test_a_client_with_a_callers_session_does_not_warn(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Its owner closes it."""
        async with http_session(backend) as session:
            client = ProductionClient(server.url, session=session, validate=False)
            await client.query("{ hello }")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del client
                gc.collect()
            assert caught == []

    async def test_a_refused_client_says_nothing_but_the_refusal(self) -> None:
        """A constructor that raises leaves nothing that could complain later."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with aiohttp.ClientSession() as session:
                with pytest.raises(ConfigurationError):
                    ProductionClient("http://127.0.0.1:1/graphql", session=session, backend="httpx")
            gc.collect()
        assert caught == []


class TestGiven:
    async def test_it_is_never_closed(self, server: ScriptedServer, backend: Backend) -> None:
        """Closing the client, leaving its block and closing its transport leave a caller's session open."""
        async with http_session(backend) as session:
            async with ProductionClient(server.url, session=session, validate=False) as client:
                await client.query("{ hello }")
            with contextlib.suppress(LookupError):
                async with ProductionClient(server.url, session=session, validate=False) as client:
                    await client.query("{ hello }")
                    raise LookupError
            client = ProductionClient(server.url, session=session, validate=False)
            await client.query("{ hello }")
            await client.transport.close()
            assert not is_closed(session)
            async with ProductionClient(server.url, session=session, validate=False) as client:
                assert (await client.query("{ hello }")).data == HELLO
        assert len({request.peer for request in server.requests}) == 1

    async def test_an_aiohttp_session_is_not_changed(self, server: ScriptedServer) -> None:
        """Headers, cookies, hooks and limits are the caller's, before and after."""
        trace = aiohttp.TraceConfig()
        async with aiohttp.ClientSession(
            headers={"X-Own": "1"}, cookies={"own": "1"}, trace_configs=[trace]
        ) as session:

            def looks() -> tuple[Any, ...]:
                cookies = {cookie.key: cookie.value for cookie in session.cookie_jar}
                return (dict(session.headers), cookies, list(session.trace_configs), session.timeout)

            before = looks()
            async with ProductionClient(server.url, session=session, validate=False) as client:
                await client.with_options(timeout=5, headers={"X-View": "1"}).query("{ hello }")
            assert looks() == before
        sent = server.requests[0].headers
        assert (sent["X-Own"], sent["X-View"], sent["Cookie"]) == ("1", "1", "own=1")

    async def test_an_httpx_client_is_not_changed(self, server: ScriptedServer) -> None:
        """Headers, cookies, hooks and limits are the caller's, before and after."""
        hooks: dict[str, list[Any]] = {"request": [], "response": []}
        async with httpx.AsyncClient(
            headers={"X-Own": "1"}, cookies={"own": "1"}, event_hooks=hooks, follow_redirects=True
        ) as session:

            def looks() -> tuple[Any, ...]:
                hooked = {name: list(each) for name, each in session.event_hooks.items()}
                kept = (session.timeout, session.follow_redirects, session.trust_env)
                return (dict(session.headers), dict(session.cookies), hooked, kept)

            before = looks()
            async with ProductionClient(server.url, session=session, validate=False) as client:
                await client.with_options(timeout=5, headers={"X-View": "1"}).query("{ hello }")
            assert looks() == before
        sent = server.requests[0].headers
        assert (sent["X-Own"], sent["X-View"], sent["Cookie"]) == ("1", "1", "own=1")

    async def test_it_decides_the_backend(self, backend: Backend) -> None:
        """Without ``backend=`` the session decides; without both it is aiohttp."""
        async with http_session(backend) as session:
            client = ProductionClient("http://127.0.0.1:1/graphql", session=session)
            assert client.config.backend == backend
        assert ProductionClient("http://127.0.0.1:1/graphql").config.backend == "aiohttp"

    async def test_the_pool_counts_nothing_of_it(self, server: ScriptedServer, backend: Backend) -> None:
        """``stats().pool`` is about our own session."""
        async with client_of(server.url, backend, "given") as client:
            await client.query("{ hello }")
            pool = client.stats().pool
            assert (pool.in_use, pool.waiting, pool.limit) == (0, 0, 0)

    async def test_closed_by_its_owner_it_gives_a_clear_error(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A session closed behind our back: an error that says so at once, with the facts of the call."""
        async with http_session(backend) as session:
            client = ProductionClient(server.url, session=session, validate=False)
            await client.query("{ hello }")
        with pytest.raises((RuntimeError, GraphQLClientException), match="closed") as caught:
            await client.with_options(timeout=5).query("mutation { increment }")
        error: Any = caught.value
        assert (error.attempts, error.may_have_executed) == (1, False)
        assert error.elapsed < 4
        assert client.stats().in_flight == 0
        assert len(server.requests) == 1

    async def test_closed_by_its_owner_under_a_call_it_ends_the_call(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A call that was under way fails; it does not hang."""
        server.script(Answer.hang())
        async with http_session(backend) as session:
            client = ProductionClient(server.url, session=session, validate=False)
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
        with pytest.raises((RuntimeError, GraphQLClientException)):
            await asyncio.wait_for(call, 10)


class TestForOneCall:
    async def test_a_session_may_be_given_for_one_call(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """``query(session=…)`` uses that session for that call alone, and leaves it open."""
        async with (
            client_of(server.url, backend, owner) as client,
            http_session(backend, headers={"X-Mine": "1"}) as session,
        ):
            await client.query("{ hello }")
            assert (await client.query("{ hello }", session=session)).data == HELLO
            await client.query("{ hello }")
            assert not is_closed(session)
        assert ["X-Mine" in request.headers for request in server.requests] == [False, True, False]
        assert server.requests[0].peer == server.requests[2].peer

    async def test_it_may_be_one_of_the_other_library(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """The session of one call decides how that call goes."""
        async with (
            client_of(server.url, backend, owner) as client,
            http_session(OTHER[backend], headers={"X-Mine": "1"}) as session,
        ):
            for method in ("post", "get"):
                answer = await client.query("{ hello }", method=method, session=session)
                assert answer.data == HELLO
            server.script(Answer.page(502))
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ hello }", session=session)
            assert caught.value.status == 502
            assert not is_closed(session)
        assert ["X-Mine" in request.headers for request in server.requests] == [True] * 3


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_an_error_that_names_its_target(
        self, server: ScriptedServer, backend: Backend, owner: Owner, status: int
    ) -> None:
        """F4: no redirect is followed, and none is tried again; credentials stay where they were sent."""
        server.always(Answer.redirect("https://user:secret@login.example.com/in?token=secret", status))
        config = ProductionConfig(retry=RetryPolicy(wait_initial=0))
        async with client_of(server.url, backend, owner, config=config) as client:
            with pytest.raises(HTTPStatusError, match=r"login\.example\.com") as caught:
                await client.query("{ hello }")
        assert (caught.value.status, caught.value.attempts) == (status, 1)
        assert "secret" not in str(caught.value)
        assert len(server.requests) == 1

    async def test_a_session_that_follows_redirects_does_not_follow_ours(
        self, server: ScriptedServer
    ) -> None:
        """What a caller's httpx client does elsewhere is its affair; for our calls it does not follow."""
        server.script(Answer.redirect("/graphql", 307))
        async with httpx.AsyncClient(follow_redirects=True) as session:
            client = ProductionClient(server.url, session=session, validate=False)
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ hello }")
        assert caught.value.status == 307
        assert len(server.requests) == 1

    async def test_a_redirect_of_a_get_is_refused_too(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Also where following would be harmless: the endpoint is what the caller named."""
        server.script(Answer.redirect("/graphql", 302))
        async with client_of(server.url, backend, owner, method="get") as client:
            with pytest.raises(HTTPStatusError, match=r"127\.0\.0\.1"):
                await client.query("{ hello }")
        assert len(server.requests) == 1


class TestContradictions:
    async def test_backend_and_session(self, backend: Backend) -> None:
        """A session of one library and the other's name contradict each other; the error names both."""
        async with http_session(backend) as session:
            with pytest.raises(ConfigurationError) as caught:
                ProductionClient(
                    "http://127.0.0.1:1/graphql", session=session, backend=OTHER[backend], validate=False
                )
            assert f"backend='{OTHER[backend]}'" in str(caught.value)
            assert f"one of {backend}" in str(caught.value)
            config = ProductionConfig(backend=OTHER[backend])
            with pytest.raises(ConfigurationError):
                ProductionClient("http://127.0.0.1:1/graphql", session=session, config=config)
            assert not is_closed(session)

    async def test_transport_and_session(self, backend: Backend) -> None:
        """A stock transport of one library and a session of the other."""
        kind = {"aiohttp": HttpxTransport, "httpx": AiohttpTransport}[backend]
        async with http_session(backend) as session:
            transport = kind("http://127.0.0.1:1/graphql")
            with pytest.raises(ConfigurationError, match=r"transport and session.*aiohttp|httpx"):
                ProductionClient("http://127.0.0.1:1/graphql", session=session, transport=transport)

    def test_transport_and_backend(self, backend: Backend) -> None:
        """A stock transport of one library and the other's name."""
        kind = {"aiohttp": HttpxTransport, "httpx": AiohttpTransport}[backend]
        transport = kind("http://127.0.0.1:1/graphql")
        with pytest.raises(ConfigurationError, match=f"transport and backend='{backend}'"):
            ProductionClient("http://127.0.0.1:1/graphql", backend=backend, transport=transport)

    def test_an_unknown_backend(self) -> None:
        """The error says which there are."""
        with pytest.raises(ConfigurationError, match=r"backend.*'aiohttp' or 'httpx'"):
            ProductionClient("http://127.0.0.1:1/graphql", backend="requests")  # type: ignore[arg-type]

    async def test_agreement_is_no_contradiction(self, server: ScriptedServer, backend: Backend) -> None:
        """Saying the same thing twice is allowed."""
        async with http_session(backend) as session:
            client = ProductionClient(server.url, session=session, backend=backend, validate=False)
            assert (await client.query("{ hello }")).data == HELLO


TWICE = """
import asyncio, gc, sys
from graphql_prod import ProductionClient

client = ProductionClient(sys.argv[1], backend=sys.argv[2], validate=False)

async def use(last):
    answers = await asyncio.gather(*(client.query("{ hello }") for _ in range(3)))
    assert all(answer.data for answer in answers)
    if last:
        await client.close()

asyncio.run(use(False))
asyncio.run(use(False))
asyncio.run(use(True))
gc.collect()
print(client.state)
"""


class TestLoops:
    async def test_a_second_loop_opens_the_session_anew(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """``asyncio.run`` twice with one client: no 'Event loop is closed', each with its own connection."""
        client = ProductionClient(server.url, validate=False, backend=backend)

        async def use() -> Any:
            return (await client.query("{ hello }")).data

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether anything is said is the next test's affair
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
            for _ in range(3):
                assert await asyncio.to_thread(asyncio.run, use()) == HELLO
            assert len({request.peer for request in server.requests}) == 3
            assert (await client.query("{ hello }")).data == HELLO
            await client.close()
            gc.collect()

    async def test_a_program_that_runs_twice_ends_without_a_word(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """aiohttp#4324: nothing about closed loops or unclosed sessions after ``close()``, warnings on."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-X", "dev", "-W", "always::ResourceWarning", "-c", TWICE, server.url, backend),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, out.decode()) == (0, "closed\n"), err.decode()
        assert err.decode() == ""
        assert len(server.requests) == 9

    async def test_two_loops_at_the_same_time(self, server: ScriptedServer, backend: Backend) -> None:
        """Two threads with a loop each share a client; each gets a session of its own, close ends both."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        together, closed = threading.Barrier(2, timeout=10), threading.Event()

        async def use(*, last: bool) -> list[Any]:
            await asyncio.to_thread(together.wait)
            answers = [(await client.query("{ hello }")).data for _ in range(25)]
            await asyncio.to_thread(together.wait)
            if last:
                await client.close()
                closed.set()
            await asyncio.to_thread(closed.wait, 20)
            return answers

        done = await asyncio.wait_for(
            asyncio.gather(*(asyncio.to_thread(asyncio.run, use(last=last)) for last in (False, True))), 30
        )
        assert done == [[HELLO] * 25] * 2
        assert len({request.peer for request in server.requests}) == 2
        assert client.state == "closed"

    async def test_close_waits_for_a_call_on_another_loop(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A call in another thread's loop finishes, and closing goes on as soon as it has."""
        gate, through = asyncio.Event(), threading.Event()
        server.script(Answer(gate=gate))
        client = ProductionClient(server.url, validate=False, backend=backend)

        async def use() -> Any:
            answer = await client.query("{ hello }")
            await asyncio.to_thread(through.wait, 20)
            return answer.data

        elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, use()))
        await server.received(1)
        closing = asyncio.create_task(client.close())
        while client.state == "open":
            await asyncio.sleep(0)
        gate.set()
        try:
            # Shorter than pool.keepalive, whose timer would wake a loop that nobody else woke.
            done, _ = await asyncio.wait({closing}, timeout=2.5)
        finally:
            through.set()
        assert await asyncio.wait_for(elsewhere, 10) == HELLO
        await asyncio.wait_for(closing, 10)
        assert done, "the end of the call did not wake the loop that closes"
        assert client.state == "closed"

    async def test_leaving_by_an_exception_cuts_a_call_on_another_loop(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The caller there sees ClientClosedError, at once."""
        server.script(Answer.hang())
        client = ProductionClient(server.url, validate=False, backend=backend)
        through = threading.Event()

        async def use() -> BaseException | None:
            try:
                await client.with_options(timeout=8).query("{ hello }")
            except graphql_prod.ClientClosedError as error:
                return error
            finally:
                await asyncio.to_thread(through.wait, 20)
            return None

        elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, use()))
        await server.received(1)
        leaving = asyncio.create_task(client.__aexit__(LookupError, LookupError(), None))
        try:
            done, _ = await asyncio.wait({leaving}, timeout=5)
        finally:
            through.set()
        error = await asyncio.wait_for(elsewhere, 20)
        await asyncio.wait({leaving}, timeout=5)
        assert done, "the cut did not reach the other loop"
        assert isinstance(error, graphql_prod.ClientClosedError)
        assert client.state == "closed"
