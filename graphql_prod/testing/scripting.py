"""The HTTP half of the scripted server: which answer comes next, and what has happened."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

from .answers import Answer
from .checking import text_of
from .delivery import send
from .documents import name_of
from .exchange import ReceivedRequest, receive, run
from .execution import Executor
from .facts import Facts, listed
from .scripts import Scripted, Scripts, Variables, answer_of

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine

    from aiohttp import web

    from .resolvers import Resolvers


class ScriptedHTTP(Facts):
    """Scripts and facts of HTTP requests."""

    def __init__(
        self, path: str, schema: Any = None, resolvers: Resolvers | None = None, root: Any = None
    ) -> None:
        super().__init__()
        self.path = path
        self.requests: list[ReceivedRequest] = []
        """Every HTTP request that arrived whole, on any path, across restarts; no upgrades."""
        self.on_request: Callable[[ReceivedRequest], Answer | None] | None = None
        """Asked at each HTTP request, before any script. An `Answer` is sent in place of what is
        scripted, None lets the request pass."""
        self.problems: list[str] = []
        """Scripted answers that broke the schema: each is an error of the test."""
        self._executor = Executor(self._changed, schema, resolvers, root)
        self._scripts = Scripts()
        self._abandoned: list[ReceivedRequest] = []
        self._stopping = False

    @property
    def executions(self) -> Counter[str]:
        """How often each top-level field really ran; a subscription counts once."""
        return self._executor.executions

    @property
    def counter(self) -> int:
        """What `increment` has made of the counter. Settable."""
        return self._executor.toy.counter

    @counter.setter
    def counter(self, value: int) -> None:
        self._executor.toy.counter = value

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
        return len(self._scripts)

    @overload
    def script(self, *answers: Scripted, variables: Variables | None = None) -> None: ...
    @overload
    def script(
        self, operation_name: str, /, *answers: Scripted, variables: Variables | None = None
    ) -> None: ...
    def script(self, *answers: Any, variables: Variables | None = None) -> None:
        """Queue answers: each next HTTP request takes one, then requests are executed again.

        An operation's name before the answers keeps them for that operation; a request without an
        operationName counts as its document's only operation. `variables` keeps them for requests
        that have these values, among others, or for which the predicate is true. None: for all.
        The most special answer is taken first. A mapping is the data of an answer; a function is
        given the request, and returns an answer or data.

        Answers for a subscription's name are its first events, or the errors that end it; after them
        it stays open for :meth:`send`.

        Raises ValueError for a name without answers, and TypeError for what is no answer.
        """
        name, answers = (answers[0], answers[1:]) if _is_name(answers) else (None, answers)
        if name is not None and not answers:
            raise ValueError(f"no answers are scripted for {name!r}")
        self._scripts.add(name, answers, variables)

    def on(self, operation_name: str, *answers: Scripted) -> None:
        """Queue answers for one operation only: as `script(operation_name, *answers)`."""
        self._scripts.add(operation_name, answers, None)

    def always(self, answer: Scripted | None, operation_name: str | None = None) -> None:
        """Answer every unscripted request so; None executes them again.

        `operation_name` limits it to one operation. None: all those without one of their own.
        """
        self._scripts.stand(operation_name, answer)

    def requests_for(self, operation_name: str) -> list[ReceivedRequest]:
        """The HTTP requests so far that asked for this operation."""
        return [each for each in self.requests if name_of(each.query, each.operation_name) == operation_name]

    def assert_used_up(self) -> None:
        """Raise AssertionError if a scripted answer was not used, or broke the schema.

        The error names what did arrive. The pytest plugin calls this after each test.
        """
        if self.problems:
            raise AssertionError(listed("scripted answers broke the schema:", self.problems))
        if self.unused:
            raise AssertionError(
                f"{self.unused} scripted answers were not used:\n{self._scripts}\n" + self.what_came()
            )

    def what_came(self) -> str:
        """What has arrived so far, a line each, for people."""
        return listed("what came:", _lines(self.requests)) if self.requests else "nothing came"

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

    @overload
    def executed(self, name: str) -> int: ...
    @overload
    def executed(self, name: str, n: int, timeout: float | None = 10.0) -> Coroutine[Any, Any, None]: ...
    def executed(
        self, name: str, n: int | None = None, timeout: float | None = 10.0
    ) -> int | Coroutine[Any, Any, None]:
        """How often an operation, or a top-level field, has run in all.

        An operation that a script answered with data counts too: for its client it ran. With `n` it is
        to be awaited, and waits until that many have run; `timeout` is in seconds, None waits for ever.
        Raises AssertionError with what did run.
        """
        if n is None:
            return self._runs(name)
        return self.until(
            lambda: self._runs(name) >= n,
            lambda: (
                f"{n} executions of {name}; what ran: {dict(self._executor.operations | self.executions)}"
            ),
            timeout,
        )

    def _ran(self) -> dict[str, int]:
        return dict(self._executor.operations | self.executions)

    def _runs(self, name: str) -> int:
        return self._executor.operations[name] or self.executions[name]

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
        answer = self._fitting(received, self._chosen(request, received))
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
        if asked is not None:
            return asked
        found = self._scripts.take(name_of(received.query, received.operation_name), received.variables)
        return None if found is None else answer_of(found, received)

    def _fitting(self, received: ReceivedRequest, answer: Answer | None) -> Answer | None:
        """The answer, if a server of this schema could have sent it."""
        if answer is None or answer.data is None or received.query is None:
            return answer
        document, data = self._executor.checked(received.query), answer.data
        if self._executor.own and not answer.breaks_schema:
            if isinstance(document, list):
                found = [error.message for error in document]
            else:
                found = self._executor.problems(document, received.operation_name, received.variables, data)
            if found:
                return self._wrong(f"{received}: {text_of(found)}")
        if not isinstance(document, list) and not answer.executes and not answer.cuts:
            self._executor.counted(document, received.operation_name)
        return answer

    def _wrong(self, problem: str) -> Answer:
        self.problems.append(problem)
        self._changed()
        return Answer.graphql(
            400, errors=[f"the scripted answer breaks the schema of this server: {problem}"]
        )

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


def _is_name(answers: tuple[Any, ...]) -> bool:
    return bool(answers) and isinstance(answers[0], str)


def _lines(requests: list[ReceivedRequest]) -> list[str]:
    return [str(request) for request in islice(requests, 50)]
