"""A cancel at every step of an operation: of its own coroutine, and of every task begun on its behalf.

The loop counts what is scheduled inside the operation's context, which tasks and callbacks inherit: steps of
the caller, of the client's own tasks for it, answers from its threads. The server, begun outside, does not
count. A sweep runs the operation again and again, each time with the cancel one step later, until it comes
through without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVarTuple, Unpack

import aiohttp
import httpx
import pytest
from subscribing import until

from graphql_prod import (
    HealthPolicy,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SubscriptionPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from aiographql.client.transport import GraphQLSession
    from subscribing import Backend

    from graphql_prod.credentials import HeadersProvider

Moment = Literal["before", "after"]
"""Just before the step: what was waited for has come. Just after it: the next wait has hardly begun."""

Ts = TypeVarTuple("Ts")

INSIDE: contextvars.ContextVar[bool] = contextvars.ContextVar("inside_the_operation", default=False)


class SteppingLoop(asyncio.SelectorEventLoop):
    """A loop that cancels a task at the n-th step of anything that belongs to it."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        """What tasks and callbacks failed with that nobody asked."""
        self.victim: asyncio.Task[Any] | None = None
        self.struck = False
        """Whether the cancel met a task that was not through."""
        self._steps = 0
        self._at = 0
        self._moment: Moment = "before"
        self.set_exception_handler(lambda _, context: self.failures.append(f"{context}"))

    def aim(self, at: int, moment: Moment) -> None:
        """Cancel the victim at this step from now, the first being 1."""
        self.victim, self.struck = None, False
        self._steps, self._at, self._moment = 0, at, moment

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        inside = INSIDE.get() if context is None else context.get(INSIDE, False)
        self._steps += inside
        hit = inside and self._steps == self._at
        if hit and self._moment == "before":
            super().call_soon(self._strike)
        handle = super().call_soon(callback, *args, context=context)
        if hit and self._moment == "after":
            super().call_soon(self._strike)
        return handle

    def _strike(self) -> None:
        if self.victim is not None:
            self.struck = self.victim.cancel()


class Operation:
    """Something to cancel. Each trial makes a new one, with a new client and the server of all trials."""

    settings: ClassVar[dict[str, Any]] = {}
    """Of the client's config."""
    validate: ClassVar[bool] = False
    provided: ClassVar[Callable[[], HeadersProvider] | None] = None
    """Makes the client's credentials."""
    given: ClassVar[bool] = False
    """Whether the session is the caller's."""

    def __init__(self, server: ScriptedServer, client: ProductionClient) -> None:
        self.server = server
        self.client = client

    async def prepare(self) -> None:
        """What comes before it, uncancelled."""

    async def run(self) -> None:
        """The operation, as a program would write it."""
        raise NotImplementedError

    async def release(self) -> None:
        """Let go what prepare() holds, once the operation has ended."""

    async def check(self, *, whole: bool) -> None:
        """What else must hold; ``whole`` where it came through without a cancel."""


@contextlib.asynccontextmanager
async def client_of(url: str, backend: Backend, kind: type[Operation]) -> AsyncIterator[ProductionClient]:
    """One slot for calls: the first that is lost stops all that follow."""
    settings: dict[str, Any] = {
        "pool": PoolPolicy(requests=1, retry_headroom=0),
        "retry": RetryPolicy(wait_initial=0.001, wait_max=0.001),
        "timeout": TimeoutPolicy(total=20),
        "subscriptions": SubscriptionPolicy(wait_initial=0.001, wait_max=0.001),
        "health": HealthPolicy(min_interval=0),
        **kind.settings,
    }
    async with contextlib.AsyncExitStack() as stack:
        session: GraphQLSession | None = None
        if kind.given and backend == "httpx":
            limits = httpx.Limits(max_connections=1)
            session = await stack.enter_async_context(httpx.AsyncClient(limits=limits, verify=False))
        elif kind.given:
            connector = aiohttp.TCPConnector(limit=1)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        client = ProductionClient(
            url,
            session=session,
            validate=kind.validate,
            backend=backend,
            config=ProductionConfig(**settings),
            headers_provider=None if kind.provided is None else kind.provided(),
        )
        yield client
        await asyncio.wait_for(client.shutdown(), 10)


def sweep(backend: Backend, kind: type[Operation], moment: Moment) -> int:
    """Cancel the operation at its 1st, 2nd, 3rd … step; returns how many there are."""

    async def trials() -> int:
        async with ScriptedServer() as server:
            step = 1
            while await trial(server, backend, kind, moment, step):
                step += 1
            return step - 1

    with asyncio.Runner(loop_factory=SteppingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SteppingLoop)
        steps = runner.run(trials())
        gc.collect()  # what failed unseen is told when it is collected
        assert loop.failures == []
    return steps


async def trial(
    server: ScriptedServer, backend: Backend, kind: type[Operation], moment: Moment, step: int
) -> bool:
    """One operation, cancelled at this step; False if it was through before."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    tasks, descriptors = asyncio.all_tasks(), _descriptors()
    try:
        async with client_of(server.url, backend, kind) as client:
            operation = kind(server, client)
            await _cancelled(loop, client, operation, moment, step)
        await until(
            lambda: asyncio.all_tasks() == tasks and _descriptors() <= descriptors,
            lambda: f"nothing to be left: {asyncio.all_tasks() - tasks} {_descriptors() - descriptors}",
        )
        await operation.check(whole=not loop.struck)
    except BaseException as error:
        error.add_note(f"{backend}: {kind.__name__} cancelled {moment} step {step}")
        raise
    return loop.struck


async def _cancelled(
    loop: SteppingLoop, client: ProductionClient, operation: Operation, moment: Moment, step: int
) -> None:
    context = contextvars.copy_context()
    context.run(INSIDE.set, True)

    def inside(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return loop.create_task(work, context=context.copy())

    await inside(operation.prepare())
    loop.aim(step, moment)
    loop.victim = inside(operation.run())
    await asyncio.wait({loop.victim}, timeout=10)
    _came_out(loop)
    await operation.release()
    await _at_rest(client)
    if client.state == "open":
        await _still_works(client, step)
        await _at_rest(client)


def _came_out(loop: SteppingLoop) -> None:
    """A cancel ends the task as one; without a cancel it ends well."""
    assert loop.victim is not None
    assert loop.victim.done(), f"it hangs: {loop.victim}"
    if not loop.struck:
        loop.victim.result()
    elif not loop.victim.cancelled():
        pytest.fail(f"the cancel was swallowed: {loop.victim.exception()!r}")


async def _at_rest(client: ProductionClient) -> None:
    """Nothing is under way, and nothing is counted that is not there."""

    def busy() -> int:
        now = client.stats()
        return now.in_flight + now.subscriptions + now.sockets + now.pool.in_use + now.pool.waiting

    await until(lambda: busy() == 0, lambda: f"zeros: {client.stats()}")


async def _still_works(client: ProductionClient, step: int) -> None:
    """The next call gets its own answer, and not the one that a cancelled call has left behind."""
    view = client.with_options(validate=False)
    query = "query After($value: String) { echo(value: $value) }"
    answer = await asyncio.wait_for(view.query(query, variables={"value": f"after {step}"}), 5)
    assert answer.data == {"echo": f"after {step}"}


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            target = os.readlink(f"/proc/self/fd/{name}")
            if target.startswith(("socket", "pipe")):
                found.add(f"{name} -> {target}")
    return found
