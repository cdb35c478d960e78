"""Fixtures of the matrix: a server, a proxy before it or none, a backend; and what tests share about them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from processes import LEGACY, MODERN, PEERS, Authority, Peer, Proxy, Server, until

from graphql_prod import ProductionClient, ProductionConfig, RetryPolicy, SubscriptionPolicy, TimeoutPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from processes import Listener
    from subscribing import Backend, Protocol

Via = Literal["none", "nginx", "haproxy"]

HELLO = 'query Hello($name: String! = "world") { hello(name: $name) }'
SLOW = "query Slow($key: String!) { slow(key: $key) }"
ADD = "mutation Add($key: String!) { increment(key: $key) }"
ADD_SLOWLY = "mutation AddSlowly($key: String!) { slowIncrement(key: $key) }"

# Tries until it works: a server that starts anew on a busy machine takes its time.
PATIENT = RetryPolicy(attempts=10_000, wait_initial=0.01, wait_max=0.05, budget=None)
ONCE = RetryPolicy(attempts=1)


@dataclasses.dataclass
class Cell:
    """One cell of the matrix: a server, what stands before it, and the library that speaks to it."""

    server: Server
    proxy: Proxy | None
    backend: Backend
    note: Callable[[str, object], None]

    @property
    def peer(self) -> Peer:
        return self.server.peer

    @property
    def protocols(self) -> list[Protocol]:
        return [each for each in (MODERN, LEGACY) if each in self.peer.paths]

    def url(self, protocol: Protocol | None = None, listener: Listener = "plain") -> str:
        port = self.proxy.ports[listener] if self.proxy else self.server.port
        path = self.peer.paths[protocol or self.protocols[0]]
        return f"{'https' if listener == 'tls' else 'http'}://127.0.0.1:{port}{path}"

    @contextlib.asynccontextmanager
    async def client(
        self,
        protocol: Protocol | None = None,
        *,
        listener: Listener = "plain",
        settings: dict[str, Any] | None = None,
        headers_provider: Any = None,
        **subscriptions: Any,
    ) -> AsyncIterator[ProductionClient]:
        """A client with hardly any waits, for the path of that protocol."""
        config = ProductionConfig(
            **{
                "retry": PATIENT,
                "timeout": TimeoutPolicy(total=50, connect=10, read=40),
                **(settings or {}),
            },
            subscriptions=SubscriptionPolicy(
                **{"connect_attempts": 1000, "wait_initial": 0.01, "wait_max": 0.05, **subscriptions}
            ),
        )
        url = self.url(protocol, listener)
        async with ProductionClient(
            url, validate=False, backend=self.backend, config=config, headers_provider=headers_provider
        ) as client:
            yield client


class Load:
    """Callers that ask and count without a pause, until told to stop."""

    def __init__(self, client: ProductionClient, server: Server, name: str, callers: int = 4) -> None:
        self.answered = 0
        self.mutations: dict[str, bool | Exception] = {}
        """What came of each key: False while it runs, True if it was answered, or its error."""
        self._server = server
        self._client = client
        self._stopping = False
        self._tasks = [asyncio.create_task(self._run(f"{name}-{caller}")) for caller in range(callers)]

    async def went_on(self, calls: int = 40) -> None:
        """Wait for so many answers more."""
        wanted = self.answered + calls
        await until(
            lambda: self.answered >= wanted or any(task.done() for task in self._tasks),
            lambda: f"{wanted} answers; there are {self.answered}",
        )
        for task in self._tasks:
            if task.done():
                task.result()

    async def stop(self) -> None:
        """Let the last calls end: every query was answered, and no mutation has run twice."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        lines = self._server.lines
        runs = {key: lines.count(f"increment {key}") for key in self.mutations}
        for key, outcome in self.mutations.items():
            if isinstance(outcome, Exception):
                allowed = {0, 1} if getattr(outcome, "may_have_executed", None) else {0}
            else:
                assert outcome is True
                allowed = {1}
            assert runs[key] in allowed, f"{key} ran {runs[key]} times: {outcome!r}"

    async def _run(self, name: str) -> None:
        n = 0
        while not self._stopping:
            n += 1
            answer = await self._client.query(HELLO, variables={"name": f"{name}-{n}"})
            assert answer.data == {"hello": f"Hello, {name}-{n}!"}, answer.json
            self.answered += 1
            key = f"{name}-{n}"
            self.mutations[key] = False
            try:
                answer = await self._client.query(ADD, variables={"key": key})
            except Exception as error:  # noqa: BLE001 -- the end looks at each
                self.mutations[key] = error
            else:
                assert answer.data is not None, answer.json
                assert answer.data["increment"] >= 1
                self.mutations[key] = True

    async def __aenter__(self) -> Load:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    """One for all proxies of a worker."""
    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        yield Authority(Path(folder))


@pytest.fixture(
    scope="session",
    params=[pytest.param(peer, id=peer.name, marks=pytest.mark.xdist_group(peer.name)) for peer in PEERS],
)
def process(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each test that asks for it runs once a server, all of them with one process."""
    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        server = Server(request.param, Path(folder))
        yield server
        server.kill()


class Proxies:
    """The proxies before one server, started when they are first asked for."""

    def __init__(self, server: Server, authority: Authority) -> None:
        self._server = server
        self._authority = authority
        self._running: dict[str, Proxy] = {}
        self._folders = contextlib.ExitStack()

    async def get(self, program: str) -> Proxy:
        if program not in self._running:
            folder = self._folders.enter_context(tempfile.TemporaryDirectory(prefix="interop-"))
            proxy = Proxy(program, self._server.port, Path(folder), self._authority.certificate)
            self._folders.callback(proxy.kill)
            await proxy.start()
            self._running[program] = proxy
        return self._running[program]

    def end(self) -> None:
        self._folders.close()


@pytest.fixture(scope="session")
def proxies(process: Server, authority: Authority) -> Iterator[Proxies]:
    """Those of a server live as long as it."""
    before = Proxies(process, authority)
    yield before
    before.end()


@pytest.fixture
async def server(process: Server) -> AsyncIterator[Server]:
    """The server, up, with its gates as they are at its start."""
    if not process.runs:
        await process.start()
    yield process
    if process.runs:
        await process.say("tick")
        await process.say("block")


@pytest.fixture(params=["none", "nginx", "haproxy"])
def via(request: pytest.FixtureRequest) -> Via:
    """Each test that asks for it runs directly, and behind each proxy."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def cell(
    request: pytest.FixtureRequest,
    server: Server,
    proxies: Proxies,
    via: Via,
    backend: Backend,
    record_property: Callable[[str, object], None],
) -> Cell:
    """A cell of the matrix; what it notes is in docs/compatibility.md."""
    record_property("rule", request.function.__doc__)
    record_property("peer", server.peer.name)
    record_property("via", via)
    record_property("backend", backend)
    return Cell(server, None if via == "none" else await proxies.get(via), backend, record_property)
