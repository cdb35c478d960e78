"""One call: its settings, its deadline, and what happened so far. One object a call, made at its start."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal, Protocol

from graphql_prod import clock
from graphql_prod.calls.settings import CallSettings
from graphql_prod.documents import Operation, is_query, runs_nothing
from graphql_prod.errors import ClientClosedError, RequestTimeoutError
from graphql_prod.loops import call_on
from graphql_prod.registry import ASKING, Asker, RegisteredCall, call_of
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.policy import RetryPolicy
from graphql_prod.resilience.timeouts import TimeoutPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest
    from aiographql.client.transport import GraphQLSession

    from graphql_prod.registry import Registry
    from graphql_prod.sessions.exchange import Exchange
    from graphql_prod.telemetry.spans import OperationSpan

    Subject = tuple[GraphQLRequest, str | None, GraphQLSession | None]
    """What will be sent, and the operation's name and the session, if they are given beside it."""


MAY_HAVE_RUN = "The mutation may have been executed: look before you send it again."


class HeldCall(Protocol):
    """A place among the calls that throttling lets go."""

    def answered(self, status: int | None, headers: Mapping[str, str] | None, json: Any) -> None:
        """A clean answer has come."""

    def told(self, told: Any) -> None:
        """An attempt has ended otherwise; what its answer says of quotas."""

    def release(self) -> None:
        """Nobody waits for an answer any more."""


class AskedAdmission(Protocol):
    """Who counts what becomes of attempts."""

    def succeeded(self) -> None:
        """The upstream has answered."""

    def failed(self, *, first: bool) -> None:
        """The upstream has failed a call."""

    def abandoned(self) -> None:
        """The attempt says nothing of the upstream."""


class Call(RegisteredCall):
    """State of one call; the registry knows which one is asking."""

    __slots__ = (
        "activity",
        "admission",
        "closing",
        "executed",
        "held",
        "is_wrapper",
        "last_error",
        "limit",
        "owner",
        "reported_error",
        "request",
        "sent",
        "settings",
        "span",
        "started",
        "status",
        "subject",
    )

    parent: Call | None
    exchange: Exchange | None

    def __init__(
        self,
        settings: CallSettings,
        outer: Asker | None,
        owner: Registry | None = None,
        *,
        internal: bool = False,
    ) -> None:
        self.settings: CallSettings = settings
        parent = outer if outer is None or isinstance(outer, Call) else _call_around(outer)
        if parent is not None and parent.done:
            parent = None
        while outer is not None and outer.done:
            outer = outer.outer  # what is over is not kept by what it has begun
        self.outer: Asker | None = outer
        self.parent = parent
        self.started: float = clock.monotonic()
        self.owner = owner
        """Whose call it is: one client may be used inside a call of another."""
        self.internal: bool = internal or (parent is not None and parent.internal and parent.owner is owner)
        self.limit: asyncio.Timeout = asyncio.timeout(None if self.internal else settings.timeout.total)
        self.task = asyncio.current_task()
        self.attempts: int = 0
        self.subject: Subject | None = None
        self.request: GraphQLRequest | None = None
        self.exchange = None
        self.sent: bool = False
        self.executed: bool = False
        """True when a part of this call was a mutation that the server may have seen."""
        self.admission: AskedAdmission | None = None
        """Who waits to hear what becomes of the attempt that is under way; None: nobody."""
        self.held: HeldCall | None = None
        """Its place among the calls that throttling lets go; None where none is taken."""
        self.last_error: Exception | None = None
        self.reported_error: Exception | None = None
        """What a part of this call has put its own facts on."""
        self.closing: bool = False
        self.outcome: Literal["own", "cancelled", "aborted"] = "own"
        self.activity: str = ""
        """What it was about when it was stopped, for an error's text."""
        self.done = False
        self.span: OperationSpan | None = None
        self.status: int | None = None
        """Of the last answer that was no clean one."""
        self.is_wrapper: bool = False
        """True for a call whose facts are those of the last query that is a part of it."""

    @property
    def operation(self) -> Operation:
        """What this call would do; read from its document, which is parsed once in a program's life."""
        request, name = self.request, None
        if request is None and self.subject is not None:
            request, name, _ = self.subject
        if request is not None and is_query(request.query, name or request.operationName):
            return Operation.QUERY
        marked = self.settings.idempotent
        if marked is None:
            policy = self.settings.backoff.policy
            marked = policy.mutations == "always" or policy.idempotency_header is not None
        return Operation.REPEATABLE if marked else Operation.MUTATION

    @property
    def may_have_executed(self) -> bool:
        """True when this call is a mutation that the server may have seen and can run."""
        return self.executed or (
            self.reached and self.operation is not Operation.QUERY and self._runs_nothing is None
        )

    @property
    def reached(self) -> bool:
        """True when the server may have seen the request."""
        return self.sent or (self.exchange is not None and self.exchange.sent is not False)

    @property
    def remaining(self) -> float:
        """Seconds left, of the nearest deadline of this call and those it is part of."""
        nearest, call = float("inf"), self
        while True:
            end = call.limit.when()
            if end is not None and end < nearest:
                nearest = end
            if call.parent is None:
                return nearest - asyncio.get_running_loop().time()
            call = call.parent

    def failed(self, error: Exception | None, wait: float = 0.0) -> None:
        """Remember the failure of an attempt, for whoever has to say why the time ran out.

        :param wait: seconds until the next attempt.
        """
        self.last_error = error or self.last_error
        if self.parent is not None:
            self.parent.failed(error, wait)

    def adopt_facts(self, part: Call) -> None:
        """Take over the facts of a query that is a part of this call."""
        if self.is_wrapper:
            self.executed = self.executed or part.may_have_executed
            self.request, self.attempts, self.sent = part.request, part.attempts, part.reached
            self.status = part.status

    def release_references(self) -> None:
        """Forget what an ended call has no use for.

        Handles of the connection keep a call's context. They shall not keep its answer too, which is in the
        exchange, and the result of the task; nor its client, which nobody may know of any more; nor its
        credentials, which may be those of one user.
        """
        self.exchange = self.task = self.subject = self.owner = None
        self.limit = _OVER
        if self.settings.credentials is not None:
            self.settings = _SPENT

    def annotate(self, error: Exception) -> None:
        """Put the facts on the error that ends this call; what a part of it has put there stays."""
        facts: dict[str, object] = {"elapsed": self.elapsed}
        if self.reported_error is not error:
            facts |= {"attempts": self.attempts, "may_have_executed": self.may_have_executed}
        elif self.executed:
            facts["may_have_executed"] = True
        if self.parent is not None:
            self.parent.reported_error = error
        for name, value in facts.items():
            with contextlib.suppress(AttributeError):  # a frozen exception of somebody else's
                setattr(error, name, value)

    def abort(self) -> None:
        """End the call now; it raises ClientClosedError. From any thread."""
        if self.task is not None:
            call_on(self.task.get_loop(), self._abort)

    def _abort(self) -> None:
        if not self.done and not self.limit.expired():
            self.closing = True
            with contextlib.suppress(RuntimeError):  # its time runs out at this moment
                self.limit.reschedule(asyncio.get_running_loop().time())

    def overdue(self, host: str) -> RequestTimeoutError | ClientClosedError:
        """The error of a call whose total ran out, or which was aborted."""
        if self.closing:
            self.outcome = "aborted"
            return ClientClosedError(
                f"The client was closed while a call to {host} was under way, {self.spent}. "
                f"{self.consequence}"
            )
        return RequestTimeoutError(
            f"{host} gave no answer within the total of {self.settings.timeout.total:g} s, "
            f"{self.spent}. {self.consequence} {self._cut_short}",
            phase="total",
        )

    @property
    def _cut_short(self) -> str:
        """What to do where the total ran out; more of it is no use where attempts have too little time."""
        before = self.last_error
        phase = before.phase if isinstance(before, RequestTimeoutError) else None
        value = getattr(self.settings.timeout, phase) if phase in ("read", "attempt") else None
        if value is None:
            return "See what it is busy with, or raise timeout.total."
        return (
            f"timeout.{phase} ({value:g} s) had ended the attempt before: see what the server is busy with, "
            f"or raise timeout.{phase}."
        )

    @property
    def elapsed(self) -> float:
        """Seconds since this call began."""
        return clock.monotonic() - self.started

    @property
    def spent(self) -> str:
        """Attempts and time so far, for an error's text."""
        plural = "" if self.attempts == 1 else "s"
        return f"after {self.attempts} attempt{plural} in {self.elapsed:.2f} s{self.activity}"

    @property
    def consequence(self) -> str:
        """What a person should know of a mutation."""
        nothing = None if self.executed else self._runs_nothing
        if nothing is not None:
            return f"{'' if self.reached else 'It was not sent. '}No part of it can run: {nothing}"
        if self.may_have_executed:
            return MAY_HAVE_RUN
        if self.request is None and self.subject is None:
            return "It was not sent."
        if self.operation is Operation.QUERY:
            return "Nothing was changed by it."
        return "The mutation was not sent."

    @property
    def _runs_nothing(self) -> str | None:
        request, name = self.request, None
        if request is None and self.subject is not None:
            request, name, _ = self.subject
        return None if request is None else runs_nothing(request.query, name or request.operationName)


_OVER = asyncio.timeout_at(None)
_SPENT = CallSettings(TimeoutPolicy(), Backoff.of(RetryPolicy()))


def _call_around(asker: Asker) -> Call | None:
    call = call_of(asker)
    assert call is None or isinstance(call, Call)  # noqa: S101 -- there is no other kind
    return call


def current() -> Call | None:
    """The call that is asking; None outside of calls."""
    asker = ASKING.get()
    return asker if asker is None or isinstance(asker, Call) else _call_around(asker)


class Group:
    """A call that is made of one query and work of its own around it (decoding)."""

    def __init__(self, settings: CallSettings, owner: Registry) -> None:
        self._call = Call(settings, ASKING.get(), owner)
        self._call.is_wrapper = True

    def __enter__(self) -> None:
        self._token = ASKING.set(self._call)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._call.done = True
        ASKING.reset(self._token)
        if isinstance(error, Exception):
            self._call.annotate(error)
        if self._call.parent is not None:
            self._call.parent.adopt_facts(self._call)
        self._call.release_references()
