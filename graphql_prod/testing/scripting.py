"""The HTTP half of the scripted server: which answer comes next, and what has happened."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from itertools import islice
from typing import TYPE_CHECKING

from .answers import Answer
from .delivery import send
from .exchange import ReceivedRequest, receive, run
from .facts import Facts, listed
from .schema import Executor, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web


class ScriptedHTTP(Facts):
    """Scripts and facts of HTTP requests."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.requests: list[ReceivedRequest] = []
        """Every HTTP request that arrived whole, on any path, across restarts; no upgrades."""
        self.on_request: Callable[[ReceivedRequest], Answer | None] | None = None
        """Asked at each HTTP request, before any script. An `Answer` is sent in place of what is
        scripted, None lets the request pass."""
        self._executor = Executor(self._changed)
        self._scripts: defaultdict[str | None, deque[Answer]] = defaultdict(deque)
        self._standing: dict[str | None, Answer] = {}
        self._abandoned: list[ReceivedRequest] = []
        self._stopping = False

    @property
    def executions(self) -> Counter[str]:
        """How often each top-level field really ran; a subscription counts once."""
        return self._executor.executions

    @property
    def counter(self) -> int:
        """What `increment` has made of the counter. Settable."""
        return self._executor.counter

    @counter.setter
    def counter(self, value: int) -> None:
        self._executor.counter = value

    @property
    def sdl(self) -> str:
        """The schema that is executed; another one holds from the next request on."""
        return self._executor.sdl

    @sdl.setter
    def sdl(self, sdl: str) -> None:
        self._executor.define(sdl)

    @property
    def unused(self) -> int:
        """Scripted answers that no request has taken yet."""
        return sum(len(answers) for answers in self._scripts.values())

    def script(self, *answers: Answer) -> None:
        """Queue answers: each next HTTP request takes one, then requests are executed again."""
        self._scripts[None].extend(answers)

    def on(self, operation_name: str, *answers: Answer) -> None:
        """Queue answers for one operation only; they come before those of `script`.

        A request without an operationName counts as its document's only operation.
        """
        self._scripts[operation_name].extend(answers)

    def always(self, answer: Answer | None, operation_name: str | None = None) -> None:
        """Answer every unscripted request so; None executes them again.

        `operation_name` limits it to one operation. None: all those without one of their own.
        """
        if answer is None:
            self._standing.pop(operation_name, None)
        else:
            self._standing[operation_name] = answer

    async def received(self, n: int, timeout: float | None = 10.0) -> list[ReceivedRequest]:
        """Wait until `n` requests have arrived in all; returns all there are.

        `timeout` is in seconds, None waits for ever. Raises AssertionError with the list of what
        did arrive.
        """
        await self.until(
            lambda: len(self.requests) >= n,
            lambda: listed(f"{n} requests, came {len(self.requests)}:", _lines(self.requests)),
            timeout,
        )
        return list(self.requests)

    async def executed(self, name: str, n: int, timeout: float | None = 10.0) -> None:
        """Wait until the top-level field `name` has run `n` times in all.

        `timeout` is in seconds, None waits for ever. Raises AssertionError with what did run.
        """
        await self.until(
            lambda: self.executions[name] >= n,
            lambda: f"{n} executions of {name}; what ran: {dict(self.executions)}",
            timeout,
        )

    async def abandoned(self, n: int, timeout: float | None = 10.0) -> list[ReceivedRequest]:
        """Wait until the clients of `n` requests have left before the answer was sent.

        Requests that the server itself cut off do not count. `timeout` is in seconds, None waits
        for ever. Raises AssertionError with the list of those that were abandoned.
        """
        await self.until(
            lambda: len(self._abandoned) >= n,
            lambda: listed(
                f"{n} abandoned requests, there are {len(self._abandoned)}:",
                _lines(self._abandoned),
            ),
            timeout,
        )
        return list(self._abandoned)

    async def _exchange(self, request: web.BaseRequest) -> web.StreamResponse:
        received = await receive(request)
        self.requests.append(received)
        self._changed()
        answer = self._chosen(request, received)
        if answer is None and received.path != self.path:
            answer = Answer(status=404, body="not found")
        try:
            return await self._answer(request, received, answer or Answer())
        except (asyncio.CancelledError, ConnectionError):
            self._lost(received, answer)
            raise

    def _chosen(self, _: web.BaseRequest, received: ReceivedRequest) -> Answer | None:
        """What a request is answered with; None: it is executed."""
        asked = self.on_request(received) if self.on_request is not None else None
        return asked or self._next(received)

    def _next(self, received: ReceivedRequest) -> Answer | None:
        name = name_of(received.query, received.operation_name)
        for key in (name, None) if name else (None,):
            if self._scripts[key]:
                return self._scripts[key].popleft()
        return self._standing.get(name) or self._standing.get(None)

    async def _answer(
        self, request: web.BaseRequest, received: ReceivedRequest, answer: Answer
    ) -> web.StreamResponse:
        real = await run(received, self._executor) if answer.executes else None
        return await send(request, answer, real)

    def _lost(self, received: ReceivedRequest, answer: Answer | None) -> None:
        if self._stopping or (answer is not None and answer.cuts):
            return
        self._abandoned.append(received)
        self._changed()


def _lines(requests: list[ReceivedRequest]) -> list[str]:
    return [str(request) for request in islice(requests, 50)]
