"""Programs that test_signals.py sends signals to: ``signalled.py NAME URL [ARGUMENT]``.

Each is a function of that name, and tells its facts in lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from graphql_prod import ProductionClient, ProductionConfig, ShutdownCoordinator

if TYPE_CHECKING:
    from aiographql.client import GraphQLSubscriptionEvent

    from graphql_prod import ShutdownReport

CALLS, SUBSCRIPTIONS = 50, 5
COUNT = "subscription Count { count }"
BOTH = (signal.SIGTERM, signal.SIGINT)


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def client_of(url: str) -> ProductionClient:
    """A client that may take far longer to end than any test."""
    pool = {"requests": CALLS}
    return ProductionClient(
        url, validate=False, config=ProductionConfig(shutdown={"deadline": 60}, pool=pool)
    )


class Load:
    """What a client is busy with: calls, subscriptions, a stream."""

    def __init__(self, client: ProductionClient, stuck: bool = False) -> None:
        self.client = client
        self.events = 0
        self._stuck = stuck
        self._calls = [asyncio.create_task(client.query("{ hello }")) for _ in range(CALLS)]
        self._stream = asyncio.create_task(self._read())

    async def begin(self) -> None:
        """Returns when everything is under way and events have come."""
        subscriptions = [
            await self.client.subscribe(COUNT, on_data=self._hang if self._stuck and not n else self._take)
            for n in range(SUBSCRIPTIONS)
        ]
        assert len(subscriptions) == SUBSCRIPTIONS
        while self.events < 50:
            await asyncio.sleep(0.01)

    async def _take(self, _: GraphQLSubscriptionEvent) -> None:
        self.events += 1

    async def _hang(self, _: GraphQLSubscriptionEvent) -> None:
        await asyncio.Event().wait()

    async def _read(self) -> None:
        async for _ in self.client.stream(COUNT):
            self.events += 1

    async def outcomes(self) -> dict[str, int]:
        """How the calls ended, by kind; the stream among them."""
        ended = await asyncio.gather(*self._calls, self._stream, return_exceptions=True)
        return Counter(type(each).__name__ for each in ended)


def told(report: ShutdownReport) -> dict[str, Any]:
    counts = ("requests_completed", "requests_cancelled", "subscriptions_drained", "subscriptions_cancelled")
    names = (*counts, "clean", "duration", "hooks_failed")
    return {name: getattr(report, name) for name in names}


async def service(url: str, kind: str = "coordinator") -> None:
    """Busy until a signal comes; then it goes on after the end of its client, and ends by itself."""
    before = [signal.getsignal(number) for number in BOTH]
    client = client_of(url)
    done = asyncio.Event()
    coordinator = ShutdownCoordinator(deadline=60)
    owner = client if kind == "client" else coordinator
    if owner is coordinator:
        coordinator.register(client)
    owner.install_signal_handlers()
    taken = [signal.getsignal(number) for number in BOTH]
    client.on_shutdown(lambda: say(draining=True))
    owner.on_shutdown(done.set, phase="after")
    load = Load(client, stuck=kind == "stuck")
    await load.begin()
    say(running=True)
    await done.wait()
    report = await (owner.shutdown() if owner is client else coordinator.wait())
    say(
        report=told(report),
        outcomes=await load.outcomes(),
        state=client.state,
        taken=all(a is not b for a, b in zip(before, taken, strict=True)),
        restored=[signal.getsignal(number) for number in BOTH] == before,
        cancelled=asyncio.current_task().cancelling(),  # type: ignore[union-attr]  # it is this one
    )


def on_a_plain_loop(url: str) -> None:
    """The service without asyncio.run: the handler of SIGINT is Python's own."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(service(url))
    loop.close()


async def interrupted(url: str) -> None:
    """No handlers of ours: Ctrl-C cancels the main task, which is inside ``async with client``."""
    async with contextlib.AsyncExitStack() as stack:
        client = client_of(url)
        stack.push_async_callback(tell_end, client, calls := list[Load]())
        async with client:
            calls.append(Load(client))
            await calls[0].begin()
            say(running=True)
            await asyncio.Event().wait()


async def tell_end(client: ProductionClient, calls: list[Load]) -> None:
    say(outcomes=await calls[0].outcomes(), state=client.state)


async def own_handler(_: str) -> None:
    """The program's own handler ends it, with a status of its own, after the drain."""
    client = client_of("http://127.0.0.1:9/")

    def leave(number: int, frame: object) -> None:
        say(state=client.state, number=number)
        raise SystemExit(3)

    signal.signal(signal.SIGTERM, leave)
    client.install_signal_handlers()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(20)
    say(swallowed=True)


def loop_is_over(_: str) -> None:
    """The handlers are installed, and the loop that they need has ended without a shutdown."""

    async def install() -> None:
        for _ in range(2):
            client_of("http://127.0.0.1:9/").install_signal_handlers()

    asyncio.run(install())
    say(taken=signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    say(swallowed=True)


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    say(port=listener.getsockname()[1])
    return listener


def under_uvicorn(url: str) -> None:
    """uvicorn handles signals itself, and so does the client, which it does not need to."""
    import uvicorn

    client = client_of(url)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            client.install_signal_handlers()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await client.close()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            answer = await client.query("{ hello }")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": answer.data["hello"].encode()})

    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning"))
    client.on_shutdown(lambda: say(draining=True))
    with listening() as listener:
        server.run(sockets=[listener])


def under_aiohttp(url: str) -> None:
    """aiohttp's runner handles signals itself, and so does the client, which it does not need to."""
    from aiohttp import web

    client = client_of(url)
    client.on_shutdown(lambda: say(draining=True))

    async def life(_: web.Application) -> Any:
        client.install_signal_handlers()
        yield
        await client.close()

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text=(await client.query("{ hello }")).data["hello"])

    app = web.Application()
    app.cleanup_ctx.append(life)
    app.router.add_get("/", hello)
    with listening() as listener:
        web.run_app(app, sock=listener, print=None)
    say(ended=True)


def main(name: str, *arguments: str) -> None:
    at_first = [signal.getsignal(number) for number in BOTH]
    assert at_first[0] is signal.SIG_DFL, "importing has taken a signal"
    assert at_first[1] in (signal.default_int_handler, signal.SIG_IGN), "importing has taken a signal"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's children ignore it
    running = globals()[name](*arguments)
    if running is not None:
        asyncio.run(running)


if __name__ == "__main__":
    main(*sys.argv[1:])
