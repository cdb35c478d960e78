"""For test_newborn_tasks.py: ``newborn.py OPERATION BACKEND``.

Runs an operation again and again. Each time the next one of the tasks that are begun on its behalf is
cancelled at its birth, before its first step. Prints what they were; fails if anything hangs, is still
counted, or does not work any more. A loop that spins cannot be stopped by anything on it: a thread ends the
program.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import inspect
import os
import signal
import sys
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, TypeVarTuple, Unpack

from aiographql.client import GraphQLClientException

from graphql_prod import (
    HealthPolicy,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    ShutdownCoordinator,
    SubscriptionPolicy,
)
from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable

    from graphql_prod import ShutdownReport

COUNT = "subscription Count($to: Int) { count(to: $to) }"
Ts = TypeVarTuple("Ts")


class BirthLoop(asyncio.SelectorEventLoop):
    """Cancels the n-th task of the package, or of the stock client, as soon as it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.births: list[str] = []
        self.at = 0
        self.failures: list[str] = []
        self._known: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.set_exception_handler(lambda _, context: self.failures.append(f"{context}"))

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = super().call_soon(callback, *args, context=context)
        task = getattr(callback, "__self__", None)
        if self.at and isinstance(task, asyncio.Task) and task not in self._known and _is_ours(task):
            self._known.add(task)
            self.births.append(str(getattr(task.get_coro(), "__qualname__", "")))
            if len(self.births) == self.at:
                task.cancel()
        return handle


def _is_ours(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    if not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
        return False
    path = coroutine.cr_code.co_filename.replace(os.sep, "/")
    return ("/graphql_prod/" in path and "/testing/" not in path) or path.endswith("client/subscription.py")


async def until(true: Callable[[], object], what: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what()}") from None


def config(**settings: Any) -> ProductionConfig:
    subscriptions = SubscriptionPolicy(wait_initial=0.001, wait_max=0.01, **settings.pop("policy", {}))
    settings = {
        "schema": {"mode": "off"},
        "health": HealthPolicy(min_interval=0),
        **settings,
    }
    return ProductionConfig(subscriptions=subscriptions, **settings)


async def outcome(work: Awaitable[object]) -> None:
    """How it ends is its own affair, but it ends, and with no cancel that nobody sent."""
    try:
        async with asyncio.timeout(10):  # wait_for() would make it a task of somebody's own
            await work
    except TimeoutError as error:
        if type(error) is TimeoutError:
            raise AssertionError("it hangs") from error
    except GraphQLClientException:
        pass
    except asyncio.CancelledError:
        raise AssertionError("a cancel came out that nobody sent") from None


async def follow(client: ProductionClient, events: int = 3, **arguments: Any) -> None:
    """Take some events by callbacks; then the end."""
    came: list[object] = []
    enough = asyncio.Event()

    def on_data(event: object) -> None:
        came.append(event)
        if len(came) >= events:
            enough.set()

    subscription = await client.subscribe(COUNT, on_data=on_data, **arguments)
    task = subscription.task
    if task is not None:
        first = asyncio.create_task(enough.wait())
        await asyncio.wait({task, first}, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
    await subscription.unsubscribe_and_wait()


class Operation:
    settings: ClassVar[dict[str, Any]] = {}

    def __init__(self, server: ScriptedServer, client: ProductionClient) -> None:
        self.server = server
        self.client = client

    async def prepare(self) -> None:
        """What comes before; nothing of it is cancelled."""

    async def run(self) -> None:
        raise NotImplementedError

    async def check(self) -> None:
        """What else must hold once it has ended."""


class Subscribe(Operation):
    async def run(self) -> None:
        await outcome(follow(self.client))


class Callbacks(Operation):
    """The task of a worker lives while there is something to do: some are born in the middle."""

    begun = 0

    async def prepare(self) -> None:
        async def on_data(_: object) -> None:
            self.begun += 1

        self.subscription = await self.client.subscribe(COUNT, variables={"to": 5}, on_data=on_data)

    async def run(self) -> None:
        task = self.subscription.task
        assert task is not None
        await asyncio.wait({task}, timeout=10)
        assert task.done(), "it hangs"
        await outcome(self.subscription.unsubscribe_and_wait())

    async def check(self) -> None:
        assert self.begun >= 1, "no later callback ran"


class Stream(Operation):
    async def run(self) -> None:
        async def read() -> None:
            async for _ in self.client.stream(COUNT, variables={"to": 3}):
                pass

        await outcome(read())


class Shared(Operation):
    settings: ClassVar[dict[str, Any]] = {"policy": {"share_connection": True, "linger": 0.01}}

    async def run(self) -> None:
        both = [asyncio.create_task(outcome(follow(self.client))) for _ in range(2)]
        await asyncio.gather(*both)


class Reconnect(Operation):
    async def prepare(self) -> None:
        self.subscription = await self.client.subscribe(COUNT, on_data=lambda _: None)

    async def run(self) -> None:
        self.server.reset_sockets()
        stats, task = self.client.stats, self.subscription.task
        assert task is not None
        await until(lambda: stats().reconnects or task.done(), lambda: f"{stats()}")
        await outcome(self.subscription.unsubscribe_and_wait())


class Validated(Operation):
    settings: ClassVar[dict[str, Any]] = {"schema": {"mode": "strict"}}

    async def run(self) -> None:
        await asyncio.gather(*(outcome(self.client.query("{ hello }")) for _ in range(2)))


class Probed(Operation):
    async def run(self) -> None:
        await asyncio.gather(*(outcome(self.client.ready()) for _ in range(2)))

    async def check(self) -> None:
        assert await self.client.ready()


class Renewed(Operation):
    """A session that has grown too old closes when its last call has ended."""

    settings: ClassVar[dict[str, Any]] = {"pool": PoolPolicy(max_age=0.001)}

    async def run(self) -> None:
        for _ in range(3):
            await outcome(self.client.query("{ hello }"))
            await asyncio.sleep(0.005)


class Ending(Operation):
    """Each phase of a shutdown has something to do."""

    expected: ClassVar[list[str]] = ["client slow", "client after"]

    async def prepare(self) -> None:
        self.ran: list[str] = []
        self._register(self.client, "client")
        self.subscription = await self.client.subscribe(COUNT, on_data=lambda _: None)

    async def run(self) -> None:
        call = asyncio.create_task(outcome(self.client.query("{ slow(seconds: 0.01) }")))
        await self.end()
        await call
        await outcome(self.subscription.unsubscribe_and_wait())

    def _register(self, registrar: ProductionClient | ShutdownCoordinator, name: str) -> None:
        async def slow() -> None:
            self.ran.append(f"{name} slow")
            await asyncio.sleep(0)

        registrar.on_shutdown(slow)
        registrar.on_shutdown(lambda: self.ran.append(f"{name} after"), phase="after")

    async def end(self) -> None:
        await outcome(self.client.shutdown(5))

    async def check(self) -> None:
        assert self.client.state == "closed", f"it stays {self.client.state}"
        assert self.ran == self.expected, f"hooks that ran: {self.ran}"


class Signalled(Ending):
    async def end(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        self.client.install_signal_handlers([signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: self.client.state == "closed", lambda: f"the end, not {self.client.state}")
        await until(lambda: signal.getsignal(signal.SIGTERM) is before, lambda: "the handler that was there")


class Coordinated(Ending):
    expected: ClassVar[list[str]] = ["coordinator slow", "client slow", "client after", "coordinator after"]

    async def end(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        coordinator = ShutdownCoordinator(5)
        self._register(coordinator, "coordinator")
        coordinator.register(self.client)
        other = coordinator.register(ProductionClient(self.server.url, config=config()))
        await other.query("{ hello }")
        coordinator.install_signal_handlers([signal.SIGTERM])

        async def wait() -> ShutdownReport:
            return await coordinator.wait()

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        await outcome(coordinator.shutdown())
        report = await asyncio.wait_for(waiting, 10)
        assert report.phases
        assert other.state == "closed"
        assert signal.getsignal(signal.SIGTERM) is before


OPERATIONS: dict[str, type[Operation]] = {
    kind.__name__.lower(): kind
    for kind in (
        Subscribe,
        Callbacks,
        Stream,
        Shared,
        Reconnect,
        Validated,
        Probed,
        Renewed,
        Ending,
        Signalled,
        Coordinated,
    )
}


async def trial(
    loop: BirthLoop, server: ScriptedServer, kind: type[Operation], backend: Any, at: int
) -> bool:
    """The operation, with the n-th birth cancelled; False if there are fewer."""
    tasks = asyncio.all_tasks()
    settings = config(**kind.settings)
    validate = settings.schema.mode != "off"
    client = ProductionClient(server.url, backend=backend, config=settings, validate=validate)
    operation = kind(server, client)
    try:
        await operation.prepare()
        loop.births, loop.at = [], at
        await operation.run()
        struck = len(loop.births) >= at
        loop.at = 0
        await operation.check()
        await until(lambda: busy(client) == 0, lambda: f"zeros: {client.stats()}")
        if client.state == "open":
            await still_works(client)
        report = await asyncio.wait_for(client.shutdown(5), 10)
        assert report is not None
        assert client.state == "closed"
        await until(lambda: asyncio.all_tasks() == tasks, lambda: f"no task: {asyncio.all_tasks() - tasks}")
    except BaseException as error:
        victim = loop.births[at - 1] if len(loop.births) >= at else "nobody"
        error.add_note(f"{kind.__name__}, {backend}: cancelled at its birth was no. {at}, {victim}")
        raise
    return struck


def busy(client: ProductionClient) -> int:
    now = client.stats()
    return now.in_flight + now.subscriptions + now.sockets + now.pool.in_use + now.pool.waiting


async def still_works(client: ProductionClient) -> None:
    async with asyncio.timeout(10):
        answer = await client.query("{ hello }")
        assert answer.data is not None
        await follow(client)


def main(operation: str, backend: str) -> None:
    faulthandler.dump_traceback_later(float(os.environ.get("LIMIT", "40")), exit=True)

    async def trials(loop: BirthLoop) -> list[str]:
        async with ScriptedServer() as server:
            server.tick = 0.001
            at, births = 1, list[str]()
            while await trial(loop, server, OPERATIONS[operation], backend, at):
                births = loop.births or births
                at += 1
            return births

    with asyncio.Runner(loop_factory=BirthLoop) as runner:
        loop: Any = runner.get_loop()
        births = runner.run(trials(loop))
        gc.collect()
        assert loop.failures == [], loop.failures
    sys.stdout.write(" ".join(births) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
