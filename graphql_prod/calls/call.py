"""One call: its settings, its deadline, and what happened so far. One object a call, made at its start."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from graphql_prod import clock
from graphql_prod.documents import Operation, is_query, runs_nothing
from graphql_prod.errors import ClientClosedError, RequestTimeoutError
from graphql_prod.loops import call_on
from graphql_prod.resilience.retry import Backoff, RetryPolicy
from graphql_prod.resilience.timeouts import TimeoutPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest
    from aiographql.client.transport import GraphQLSession

    from graphql_prod.credentials import Credentials
    from graphql_prod.sessions.exchange import Exchange
    from graphql_prod.shutdown.conductor import Lifecycle
    from graphql_prod.telemetry.observer import OperationSpan

    Subject = tuple[GraphQLRequest, str | None, GraphQLSession | None]
    """What will be sent, and the operation's name and the session, if they are given beside it."""


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What a call goes by: the client's settings, or those of a view made by ``with_options``."""

    timeout: TimeoutPolicy
    schedule: Backoff
    idempotent: bool | None = None
    """Whether mutations are; None leaves it to the policy."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    validate: bool | None = None
    auth_error_codes: frozenset[str] = frozenset()
    credentials: Credentials | None = None
    probe: bool = False
    """Whether it looks into readiness, and so waits for no slot of ours: that says nothing of the server."""


class Call:
    """State of one call; ``CURRENT`` holds the one that a task is in."""

    __slots__ = (
        "attempts",
        "closing",
        "doing",
        "done",
        "exchange",
        "executed",
        "fate",
        "last_error",
        "limit",
        "owner",
        "parent",
        "parts",
        "request",
        "sent",
        "settings",
        "silent",
        "started",
        "status",
        "subject",
        "task",
        "told",
        "watch",
    )

    def __init__(
        self,
        settings: CallSettings,
        parent: Call | None,
        owner: Lifecycle | None = None,
        *,
        silent: bool = False,
    ) -> None:
        self.settings = settings
        self.parent = parent
        self.started = clock.monotonic()
        self.owner = owner
        """Whose call it is: one client may be used inside a call of another."""
        self.silent: bool = silent or (parent is not None and parent.silent and parent.owner is owner)
        """True for what the client does for itself: not counted nor waited for, and limited as a whole."""
        self.limit = asyncio.timeout(None if self.silent else settings.timeout.total)
        self.task = asyncio.current_task()
        self.attempts = 0
        self.subject: Subject | None = None
        self.request: GraphQLRequest | None = None
        self.exchange: Exchange | None = None
        self.sent = False
        self.executed = False
        """True when a part of this call was a mutation that the server may have seen."""
        self.last_error: Exception | None = None
        self.told: Exception | None = None
        self.closing = False
        self.fate: Literal["own", "cancelled", "cut"] = "own"
        """How it ended: by itself, by its caller's cancel, or cut at the end of the client."""
        self.doing = ""
        """What it was about when it was stopped, for an error's text."""
        self.done = False
        self.watch: OperationSpan | None = None
        self.status: int | None = None
        """Of the last answer that was no clean one."""
        self.parts = False
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
            policy = self.settings.schedule.policy
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
        ends = [end for call in self.lineage() if (end := call.limit.when()) is not None]
        return min(ends, default=float("inf")) - asyncio.get_running_loop().time()

    def lineage(self) -> list[Call]:
        """This call and those it is part of (a query that needs an introspection first)."""
        return [self] if self.parent is None else [self, *self.parent.lineage()]

    def failed(self, error: Exception | None, wait: float = 0.0) -> None:
        """Remember the failure of an attempt, for whoever has to say why the time ran out.

        :param wait: seconds until the next attempt.
        """
        self.last_error = error or self.last_error
        if self.parent is not None:
            self.parent.failed(error, wait)

    def absorb(self, part: Call) -> None:
        """Take over the facts of a query that is a part of this call."""
        if self.parts:
            self.executed = self.executed or part.may_have_executed
            self.request, self.attempts, self.sent = part.request, part.attempts, part.reached
            self.status = part.status

    def let_go(self) -> None:
        """Forget what an ended call has no use for.

        Handles of the connection keep a call's context. They shall not keep its answer too, which is in the
        exchange, and the result of the task; nor its client, which nobody may know of any more; nor its
        credentials, which may be those of one user.
        """
        self.exchange = self.task = self.subject = self.owner = None
        self.limit = _OVER
        if self.settings.credentials is not None:
            self.settings = _SPENT

    def tell(self, error: Exception) -> None:
        """Put the facts on the error that ends this call; what a part of it has told stays."""
        facts: dict[str, object] = {"elapsed": self.elapsed}
        if self.told is not error:
            facts |= {"attempts": self.attempts, "may_have_executed": self.may_have_executed}
        elif self.executed:
            facts["may_have_executed"] = True
        if self.parent is not None:
            self.parent.told = error
        for name, value in facts.items():
            with contextlib.suppress(AttributeError):  # a frozen exception of somebody else's
                setattr(error, name, value)

    def cut(self) -> None:
        """End the call now; it raises ClientClosedError. From any thread."""
        if self.task is not None:
            call_on(self.task.get_loop(), self._cut)

    def _cut(self) -> None:
        if not self.done and not self.limit.expired():
            self.closing = True
            with contextlib.suppress(RuntimeError):  # its time runs out at this moment
                self.limit.reschedule(asyncio.get_running_loop().time())

    def overdue(self, host: str) -> RequestTimeoutError | ClientClosedError:
        """The error of a call whose total ran out, or which was cut."""
        if self.closing:
            self.fate = "cut"
            return ClientClosedError(
                f"The client was closed while a call to {host} was under way, {self.spent}. "
                f"{self.consequence}"
            )
        return RequestTimeoutError(
            f"{host} gave no answer within the total of {self.settings.timeout.total:g} s, "
            f"{self.spent}. {self.consequence} See what it is busy with, or raise timeout.total.",
            phase="total",
        )

    @property
    def elapsed(self) -> float:
        """Seconds since this call began."""
        return clock.monotonic() - self.started

    @property
    def spent(self) -> str:
        """Attempts and time so far, for an error's text."""
        plural = "" if self.attempts == 1 else "s"
        return f"after {self.attempts} attempt{plural} in {self.elapsed:.2f} s{self.doing}"

    @property
    def consequence(self) -> str:
        """What a person should know of a mutation."""
        nothing = None if self.executed else self._runs_nothing
        if nothing is not None:
            return f"{'' if self.reached else 'It was not sent. '}No part of it can run: {nothing}"
        if self.may_have_executed:
            return "The mutation may have been executed: look before you send it again."
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

CURRENT: ContextVar[Call | None] = ContextVar("graphql_prod_call", default=None)


class Group:
    """A call that is made of one query and work of its own around it (decoding)."""

    def __init__(self, settings: CallSettings, owner: Lifecycle) -> None:
        parent = CURRENT.get()
        self._call = Call(settings, None if parent is None or parent.done else parent, owner)
        self._call.parts = True

    def __enter__(self) -> None:
        self._token = CURRENT.set(self._call)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._call.done = True
        CURRENT.reset(self._token)
        if isinstance(error, Exception):
            self._call.tell(error)
        if self._call.parent is not None:
            self._call.parent.absorb(self._call)
        self._call.let_go()
