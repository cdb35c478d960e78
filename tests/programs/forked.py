"""For test_forks.py: ``forked.py NAME WAY BACKEND URL [CA]``.

Parent and child tell their facts in lines of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx

from graphql_prod import (
    ClientClosedError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    ShutdownCoordinator,
    SubscriptionPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = "subscription { count }"
FORK = multiprocessing.get_context("fork")


def say(**facts: object) -> None:
    # One write: two processes share the pipe.
    os.write(1, (json.dumps(facts) + "\n").encode())


def client_of(backend: Any, url: str, ca: str | None = None, **objects: Any) -> ProductionClient:
    """Nothing is tried again: what the child does to the parent's connections shall show."""
    tls: dict[str, Any] = {} if ca is None else {"tls": {"ca_file": ca}}
    config = ProductionConfig(
        retry=RetryPolicy(attempts=1),
        subscriptions=SubscriptionPolicy(max_reconnects=0),
        timeout={"total": 10},
        health={"min_interval": 0},
        shutdown={"deadline": 20},
        **tls,
    )
    return ProductionClient(url, backend=backend, validate=False, config=config, **objects)


async def taken(client: ProductionClient, events: int = 3) -> int:
    """Subscribe, take some events, unsubscribe."""
    seen = 0
    async for _ in client.stream(COUNT):
        seen += 1
        if seen == events:
            break
    return seen


def work(client: ProductionClient) -> None:
    """What a child does with the client that it has inherited."""

    async def main() -> None:
        at_first = client.stats()
        answer = await client.query("{ hello }")
        ready = await client.ready()
        events = await taken(client)
        began = time.monotonic()
        report = await client.shutdown()
        say(
            child="worked",
            state=at_first.state,
            counts=[at_first.in_flight, at_first.subscriptions, at_first.sockets, at_first.pool.in_use],
            data=answer.data,
            ready=bool(ready),
            events=events,
            clean=report.clean,
            seconds=time.monotonic() - began,
            after=client.state,
        )

    asyncio.run(main())


WANTED: queue.Queue[Callable[[], None] | None] = queue.Queue()
BEGUN: queue.Queue[int] = queue.Queue()


class Child(Exception):  # noqa: N818 -- no error
    """What the main thread does in a child."""


def forking() -> None:
    """Fork as often as the loop in the other thread wants it; a child goes the whole way out."""
    while (child := WANTED.get()) is not None:
        pid = os.fork()
        if not pid:
            child()
            gc.collect()
            raise Child
        BEGUN.put(pid)


def forked(child: Callable[[], None], end: str) -> int:
    """Begin a child; returns its process id."""
    if end == "exit":
        WANTED.put(child)
        return BEGUN.get(timeout=10)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        child()
        gc.collect()
        status = 0
    finally:
        os._exit(status)
    return 0


async def through(pid: int) -> int:
    """Wait for its end; the exit status."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 -- it does not block
        if ended:
            return os.waitstatus_to_exitcode(status)
        await asyncio.sleep(0.005)


class Busy:
    """A parent with a call and a subscription under way, and a connection that is kept."""

    def __init__(self, client: ProductionClient) -> None:
        self.client = client
        self.events = 0
        self.errors: list[str] = []
        self.gaps = 0

    async def begin(self) -> None:
        await asyncio.gather(*(self.client.query("{ hello }") for _ in range(2)))
        self.subscription = await self.client.subscribe(
            COUNT, on_data=self._take, on_gap=self._gap, on_error=lambda event: self.errors.append(f"{event}")
        )
        self.call = asyncio.create_task(self.client.query("{ slow(seconds: 1) }"))
        await self.more()

    def _take(self, _: object) -> None:
        self.events += 1

    def _gap(self, _: object) -> None:
        self.gaps += 1

    async def more(self) -> None:
        wanted = self.events + 3
        while self.events < wanted and self.subscription.active():
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        answer = await self.call
        await self.more()
        again = await self.client.query("{ hello }")
        say(
            parent="went on",
            slow=answer.data,
            again=again.data,
            active=self.subscription.active(),
            gaps=self.gaps,
            errors=self.errors,
        )
        await self.client.shutdown()


async def used(backend: Any, url: str, ca: str | None, way: str) -> None:
    """The child uses the client and closes it, however it was begun and however it ends."""
    client = client_of(backend, url, ca)
    busy = Busy(client)
    await busy.begin()
    if way == "multiprocessing":
        process = FORK.Process(target=work, args=(client,))
        process.start()
        while process.is_alive():
            await asyncio.sleep(0.005)
        status: int | None = process.exitcode
    elif way == "thread":
        pids: list[int] = []
        thread = threading.Thread(target=lambda: pids.append(forked(lambda: work(client), "_exit")))
        thread.start()
        while not pids:
            await asyncio.sleep(0.001)
        thread.join()
        status = await through(pids[0])
    else:
        status = await through(forked(lambda: work(client), way))
    say(status=status)
    await busy.end()


async def unused(backend: Any, url: str, ca: str | None, way: str) -> None:
    """The child does nothing with it, and ends the whole way: everything is collected."""
    client = client_of(backend, url, ca)
    busy = Busy(client)
    await busy.begin()
    say(status=await through(forked(lambda: None, way)))
    await busy.end()


async def given(backend: Any, url: str, ca: str | None, way: str) -> None:
    """The session is a caller's, and its connections are the parent's."""
    session = aiohttp.ClientSession() if backend == "aiohttp" else httpx.AsyncClient()
    client = client_of(backend, url, ca, session=session)
    await client.query("mutation { increment }")

    def child() -> None:
        async def main() -> None:
            refused = []
            for work in (client.query("mutation { increment }"), client.subscribe(COUNT)):
                try:
                    await work
                except ClientClosedError as error:
                    refused.append(f"{type(error).__name__}: {error}")
            ready = await client.ready()
            await client.close()
            say(child="refused", texts=refused, ready=bool(ready), closed=client.state)

        asyncio.run(main())

    say(status=await through(forked(child, way)))
    answer = await client.query("{ counter }")
    say(parent="went on", data=answer.data)
    await client.close()
    await (session.close() if isinstance(session, aiohttp.ClientSession) else session.aclose())


async def in_mid_call(backend: Any, url: str, ca: str | None, way: str) -> None:
    """Forked in a callback: inside a subscription, and inside whatever the parent is about."""
    client = client_of(backend, url, ca)
    pids: list[int] = []
    done = asyncio.Event()

    def on_data(_: object) -> None:
        if not pids:
            subscription = subscriptions[0]

            def child() -> None:
                async def main() -> None:
                    say(child="asked", active=subscription.active())
                    await subscription.unsubscribe_and_wait()

                asyncio.run(main())
                work(client)

            pids.append(forked(child, way))
            done.set()

    subscriptions: list[Any] = []
    subscriptions.append(await client.subscribe(COUNT, on_data=on_data))
    await done.wait()
    say(status=await through(pids[0]))
    say(parent="went on", active=subscriptions[0].active())
    await client.close()


async def while_draining(backend: Any, url: str, ca: str | None, way: str) -> None:
    """Forked by a hook of the parent's shutdown."""
    client = client_of(backend, url, ca)
    await client.query("{ hello }")

    @client.on_shutdown
    async def fork() -> None:
        say(status=await through(forked(lambda: work(client), way)))

    report = await client.shutdown()
    say(parent="went on", clean=report.clean)


async def terminated(backend: Any, url: str, ca: str | None, way: str) -> None:
    """Our handlers are the parent's: SIGTERM ends a child, whatever is installed in the parent."""
    client = client_of(backend, url, ca)
    registrar: ProductionClient | ShutdownCoordinator = client
    if way == "coordinator":
        registrar = ShutdownCoordinator()
        registrar.register(client)
    registrar.install_signal_handlers()
    await client.query("{ hello }")
    ready, told = FORK.Pipe()

    def sleep() -> None:
        told.send(1)
        time.sleep(30)

    process = FORK.Process(target=sleep)
    process.start()
    ready.recv()
    process.terminate()
    process.join(10)
    with FORK.Pool(2) as pool:
        squares = pool.map(abs, [1, -2])
    say(
        exitcode=process.exitcode,
        squares=squares,
        handlers=[str(signal.getsignal(number) is not signal.SIG_DFL) for number in (signal.SIGTERM,)],
        state=client.state,
    )
    await registrar.shutdown()


async def terminated_at_once(backend: Any, url: str, ca: str | None, way: str) -> None:
    """A child that is ended before it could do anything; and the parent still has its handlers."""
    client = client_of(backend, url, ca)
    client.install_signal_handlers()
    codes = set()
    for _ in range(40):
        process = FORK.Process(target=time.sleep, args=(30,))
        process.start()
        process.terminate()
        process.join(5)
        codes.add(process.exitcode)
        if process.exitcode is None:
            process.kill()
            break
    before = client.state
    os.kill(os.getpid(), signal.SIGTERM)
    while client.state != "closed":
        await asyncio.sleep(0.005)
    say(
        codes=sorted(codes, key=str), before=before, blocked=len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    )


async def serving(backend: Any, url: str, ca: str | None, way: str) -> None:
    """A service with a daemon helper ends at SIGTERM, whichever came first, the helper or the handlers."""
    async with ShutdownCoordinator(deadline=10) as coordinator:
        client = coordinator.register(client_of(backend, url, ca))
        helper = FORK.Process(target=time.sleep, args=(30,), daemon=True)
        if way == "before":
            helper.start()
        coordinator.install_signal_handlers()
        if way == "after":
            helper.start()
        await client.query("{ hello }")
        os.kill(os.getpid(), signal.SIGTERM)
        report = await coordinator.wait()
        say(clean=report.clean)


PROGRAMS = {
    each.__name__: each
    for each in (used, unused, given, in_mid_call, while_draining, terminated, terminated_at_once, serving)
}


def main(name: str, way: str, backend: str, url: str, ca: str | None = None) -> None:
    # Newer Pythons warn of each fork of a program with threads: that is what is tested here.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

    def run() -> None:
        asyncio.run(PROGRAMS[name](backend, url, ca, way))
        WANTED.put(None)

    if way == "exit":
        loop = threading.Thread(target=run)
        loop.start()
        try:
            forking()
        except Child:
            return
        loop.join()
    else:
        run()
    say(ended=name)


if __name__ == "__main__":
    main(*sys.argv[1:])
