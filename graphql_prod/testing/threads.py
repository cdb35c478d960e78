"""Servers for tests without a loop of their own: they run in a thread, and can be asked from any loop."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from .proxy import FaultyProxy
from .server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from types import TracebackType

    from aiohttp import web

    from .answers import Answer
    from .exchange import ReceivedRequest

T = TypeVar("T")

GLANCE = 0.005
"""Seconds between two looks at a gate, which belongs to another loop and cannot be waited for."""


class LoopThread:
    """An event loop that runs in a thread, as long as the ``with`` block."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="graphql_prod.testing", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it over there, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on that loop, and wait here. Safe to cancel."""
    if asyncio.get_running_loop() is loop:
        return await coroutine
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


class ThreadedServer(ScriptedServer):
    """A :class:`ScriptedServer` on the loop of a thread. Its own methods may be called from anywhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(**options)
        self._loop = loop

    async def start(self) -> None:
        await _on(self._loop, super().start())

    async def stop(self) -> None:
        await _on(self._loop, super().stop())

    async def until(
        self,
        true: Callable[[], bool],
        what: Callable[[], str] | str = "the condition to become true",
        timeout: float | None = 10.0,
    ) -> None:
        await _on(self._loop, super().until(true, what, timeout))

    async def send(
        self,
        event: Mapping[str, Any] | None,
        operation_name: str | None = None,
        *,
        errors: Sequence[Mapping[str, Any] | str] = (),
        timeout: float | None = 10.0,
    ) -> int:
        sending = super().send(event, operation_name, errors=errors, timeout=timeout)
        return await _on(self._loop, sending)

    async def send_to_sockets(self, message: Mapping[str, Any] | str | bytes) -> None:
        await _on(self._loop, super().send_to_sockets(message))

    async def complete_subscriptions(self, operation_name: str | None = None) -> None:
        await _on(self._loop, super().complete_subscriptions(operation_name))

    async def close_subscriptions(self, code: int = 1012, reason: str = "") -> None:
        await _on(self._loop, super().close_subscriptions(code, reason))

    async def close_sockets(self, code: int = 1012, reason: str = "") -> None:
        await _on(self._loop, super().close_sockets(code, reason))

    def reset_sockets(self) -> None:
        self._loop.call_soon_threadsafe(super().reset_sockets)

    async def _answer(
        self, request: web.BaseRequest, received: ReceivedRequest, answer: Answer
    ) -> web.StreamResponse:
        gate = answer.gate
        while gate is not None and not gate.is_set():  # noqa: ASYNC110 -- it is set in another thread
            await asyncio.sleep(GLANCE)
        return await super()._answer(request, received, dataclasses.replace(answer, gate=None))


class ThreadedProxy(FaultyProxy):
    """A :class:`FaultyProxy` on the loop of a thread. All of its methods may be called from anywhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target_port: int) -> None:
        super().__init__(target_port)
        self._loop = loop

    async def up(self) -> None:
        await _on(self._loop, super().up())

    async def down(self) -> None:
        await _on(self._loop, super().down())

    async def until(
        self,
        true: Callable[[], bool],
        what: Callable[[], str] | str = "the condition to become true",
        timeout: float | None = 10.0,
    ) -> None:
        await _on(self._loop, super().until(true, what, timeout))

    def reset_connections(self) -> None:
        self._soon(super().reset_connections)

    def half_close(self) -> None:
        self._soon(super().half_close)

    def inject(self, data: bytes) -> None:
        self._soon(super().inject, data)

    def _soon(self, call: Callable[..., None], *given: Any) -> None:
        """Now if this is the loop's own thread, else as soon as it gets there."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            call(*given)
        else:
            self._loop.call_soon_threadsafe(call, *given)
