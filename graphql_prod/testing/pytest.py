"""Fixtures for pytest: a server, a client to it, and a faulty proxy between them.

Opt in from the ``conftest.py`` at the root of the tests::

    pytest_plugins = ["graphql_prod.testing.pytest"]

The fixtures work in plain tests, under pytest-asyncio in either mode, and under anyio's plugin with its
asyncio backend. Under the last three, server, proxy and client live on the loop of the test. In a plain
test the server and the proxy run in a thread, and the client opens itself on the first loop that uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

import pytest

from graphql_prod.client import ProductionClient

from . import waiting
from .proxy import FaultyProxy
from .server import ScriptedServer
from .threads import LoopThread, ThreadedProxy, ThreadedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping

try:
    import pytest_asyncio
except ImportError:  # a project that uses anyio's plugin, or none
    pytest_asyncio = None  # type: ignore[assignment]

__all__ = [
    "faulty_proxy",
    "graphql_client",
    "graphql_client_options",
    "graphql_server",
    "graphql_server_options",
    "no_waiting",
]

LOOP_SCOPES: tuple[Literal["function", "class", "module", "package", "session"], ...] = (
    "function",
    "class",
    "module",
    "package",
    "session",
)
SERVERS = pytest.StashKey[list[ScriptedServer]]()
THREAD = pytest.StashKey[LoopThread]()


# --- what a test asks for ---------------------------------------------------------------------------


@pytest.fixture
def graphql_server_options() -> Mapping[str, Any]:
    """The arguments of ``graphql_server``, as a dict; override it to give it a schema of your own."""
    return {}


@pytest.fixture
def graphql_client_options() -> Mapping[str, Any]:
    """The arguments of ``graphql_client`` beside its endpoint, as a dict; override it for a config."""
    return {}


@pytest.fixture(name="no_waiting")
def no_waiting() -> Iterator[None]:
    """Waits between attempts end at once; see :func:`graphql_prod.testing.no_waiting`."""
    with waiting.no_waiting():
        yield


@pytest.fixture
def graphql_server(
    request: pytest.FixtureRequest, graphql_server_options: Mapping[str, Any]
) -> Iterator[ScriptedServer]:
    """A started :class:`ScriptedServer`. The test fails if a script was not used up, or broke the schema."""
    made = _made(request, "server", lambda loop: ThreadedServer(loop, **graphql_server_options))
    with made as server:
        request.node.stash.setdefault(SERVERS, []).append(server)
        yield server


@pytest.fixture
def faulty_proxy(request: pytest.FixtureRequest, graphql_server: ScriptedServer) -> Iterator[FaultyProxy]:
    """A :class:`FaultyProxy` before ``graphql_server``; the test's ``graphql_client`` goes through it."""
    with _made(request, "proxy", lambda loop: ThreadedProxy(loop, graphql_server.port)) as proxy:
        yield proxy


@pytest.fixture
def graphql_client(
    request: pytest.FixtureRequest,
    graphql_server: ScriptedServer,
    graphql_client_options: Mapping[str, Any],
    no_waiting: None,
) -> Iterator[ProductionClient]:
    """An open client to ``graphql_server``, through ``faulty_proxy`` if the test asks for that too.

    It does not validate and does not wait between attempts. In a plain test it opens itself when it is used.
    """
    if "faulty_proxy" in request.fixturenames:
        request.getfixturevalue("faulty_proxy")
    name = _on_the_loop(request, "client")
    if name is not None:
        yield request.getfixturevalue(name)
        return
    client = ProductionClient(_url(request), **{"validate": False, **graphql_client_options})
    yield client
    asyncio.run(client.close())


# --- a script that was not used up fails the test ---------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """After a test that passed: was all used that was scripted? After one that failed: what came?"""
    servers = item.stash.get(SERVERS, [])
    try:
        result = yield
    except BaseException:
        for server in item.stash.get(SERVERS, servers):
            item.add_report_section("call", f"graphql_server {server.url}", server.what_came())
        raise
    for server in item.stash.get(SERVERS, servers):
        server.assert_used_up()
    return result


# --- where it runs ----------------------------------------------------------------------------------


def _on_the_loop(request: pytest.FixtureRequest, what: str) -> str | None:
    """The name of the fixture that makes this on the loop of the test; None for a plain test."""
    if "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        name = backend if isinstance(backend, str) else backend[0]
        if name != "asyncio":
            pytest.skip(f"graphql_prod needs asyncio, and this test runs on {name}")
        return f"_graphql_{what}_under_anyio"
    marker = request.node.get_closest_marker("asyncio")
    if marker is None or pytest_asyncio is None:
        return None
    scope = marker.kwargs.get("loop_scope") or marker.kwargs.get("scope") or _default_scope(request.config)
    return f"_graphql_{what}_on_{scope}_loop"


def _default_scope(config: pytest.Config) -> str:
    try:
        return config.getini("asyncio_default_test_loop_scope") or "function"
    except (KeyError, ValueError):  # an older pytest-asyncio
        return "function"


@contextlib.contextmanager
def _made(
    request: pytest.FixtureRequest, what: str, elsewhere: Callable[[asyncio.AbstractEventLoop], Any]
) -> Iterator[Any]:
    """A server or a proxy: on the loop of the test, or in a thread where the test has none."""
    name = _on_the_loop(request, what)
    if name is not None:
        yield request.getfixturevalue(name)
        return
    with LoopThread() as thread:
        made = elsewhere(thread.loop)
        begin, end = (made.start, made.stop) if what == "server" else (made.up, made.down)
        thread.run(begin())
        try:
            yield made
        finally:
            thread.run(end())


def _url(request: pytest.FixtureRequest) -> str:
    server: ScriptedServer = request.getfixturevalue("graphql_server")
    if "faulty_proxy" not in request.fixturenames:
        return server.url
    proxy: FaultyProxy = request.getfixturevalue("faulty_proxy")
    return proxy.url_for(server.path, server.url.partition(":")[0])


async def _serving(options: Mapping[str, Any]) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(**options)
    await server.start()
    yield server
    await server.stop()  # not by leaving a block, which would complain a second time


# pytest-asyncio marks the function that it is given, so that each loop needs one of its own.


def _server() -> Callable[..., Any]:
    async def server(graphql_server_options: Mapping[str, Any]) -> AsyncIterator[ScriptedServer]:
        async for each in _serving(graphql_server_options):
            yield each

    return server


def _proxy() -> Callable[..., Any]:
    async def proxy(graphql_server: ScriptedServer) -> AsyncIterator[FaultyProxy]:
        async with FaultyProxy(graphql_server.port) as each:
            yield each

    return proxy


def _client() -> Callable[..., Any]:
    async def client(
        request: pytest.FixtureRequest, graphql_client_options: Mapping[str, Any]
    ) -> AsyncIterator[ProductionClient]:
        async with ProductionClient(_url(request), **{"validate": False, **graphql_client_options}) as each:
            yield each

    return client


@pytest.fixture
async def _graphql_server_under_anyio(
    anyio_backend: object,
    graphql_server_options: Mapping[str, Any],
) -> AsyncIterator[ScriptedServer]:
    async for each in _serving(graphql_server_options):
        yield each


@pytest.fixture
async def _graphql_proxy_under_anyio(
    anyio_backend: object,
    graphql_server: ScriptedServer,
) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(graphql_server.port) as each:
        yield each


@pytest.fixture
async def _graphql_client_under_anyio(
    anyio_backend: object,
    request: pytest.FixtureRequest,
    graphql_client_options: Mapping[str, Any],
) -> AsyncIterator[ProductionClient]:
    async with ProductionClient(_url(request), **{"validate": False, **graphql_client_options}) as each:
        yield each


if pytest_asyncio is not None:
    # pytest finds fixtures by the names of a module: one of each kind for each loop that a test may run on.
    for _scope in LOOP_SCOPES:
        for _kind, _make in {"server": _server, "proxy": _proxy, "client": _client}.items():
            _name = f"_graphql_{_kind}_on_{_scope}_loop"
            globals()[f"{_name}_fixture"] = pytest_asyncio.fixture(name=_name, loop_scope=_scope)(_make())
