"""The register of a client: which calls are under way, whether it takes new ones, and who is asking.

Everything may ask it, and it knows nobody: what is counted here stands behind small classes of its own.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from graphql_prod import clock
from graphql_prod.errors import ClientClosedError
from graphql_prod.loops import call_on
from graphql_prod.runtime import forks

if TYPE_CHECKING:
    from contextvars import Context

State = Literal["open", "draining", "closing", "closed"]


class Asker:
    """Who is asking: a call, a hook, a callback, or the body of a loop over a stream.

    :ivar outer: within whom; None where it is the program itself.
    """

    __slots__ = ("outer",)

    outer: Asker | None
    done: bool
    """Whether it is over, though tasks that it began may still ask in its name."""


ASKING: ContextVar[Asker | None] = ContextVar("graphql_prod_asking", default=None)
"""The innermost of those who are asking; None: the program itself."""

Kind = TypeVar("Kind", bound=Asker)


def asking(kind: type[Kind]) -> Kind | None:
    """The innermost of a kind among those who are asking."""
    asker = ASKING.get()
    while asker is not None:
        if isinstance(asker, kind):
            return asker
        asker = asker.outer
    return None


class RegisteredCall(Asker):
    """A call, as far as those need to know it who do not make it.

    :ivar parent: the call that it is a part of.
    :ivar attempts: those that were begun.
    :ivar exchange: the attempt that is under way; None before the first.
    :ivar internal: True for what the client does for itself: it is not counted, nor waited for.
    :ivar outcome: how it ended: by itself, by its caller's cancel, or aborted at the end of the client.
    :ivar task: the task that it runs in; None where it has none of its own.
    """

    __slots__ = ("attempts", "done", "exchange", "internal", "outcome", "parent", "task")

    parent: RegisteredCall | None
    attempts: int
    exchange: Any
    internal: bool
    outcome: Literal["own", "cancelled", "aborted"]
    task: asyncio.Task[Any] | None

    def lineage(self) -> list[RegisteredCall]:
        """This call and those that it is part of (a query that needs an introspection first)."""
        return [self] if self.parent is None else [self, *self.parent.lineage()]

    def abort(self) -> None:
        """End the call now. From any thread."""
        raise NotImplementedError


class _NoCall(Asker):
    """Stands between a task and the call that began it, which it is no part of."""

    __slots__ = ()
    done = False

    def __init__(self, outer: Asker | None) -> None:
        self.outer = outer


def current_call() -> RegisteredCall | None:
    """The call that is asking, whether it is over or not; None outside of calls."""
    return call_of(ASKING.get())


def call_of(asker: Asker | None) -> RegisteredCall | None:
    """The call that somebody asks in."""
    while asker is not None:
        if isinstance(asker, RegisteredCall):
            return asker
        if type(asker) is _NoCall:
            return None
        asker = asker.outer
    return None


def leave_calls(context: Context | None = None) -> None:
    """Be no part of the call that is asking: in a context, or in the one that runs."""
    if context is not None:
        context.run(leave_calls)
    elif current_call() is not None:
        ASKING.set(_NoCall(ASKING.get()))


class Ending(Protocol):
    """The end of a client, while it is under way."""

    def admits(self) -> bool:
        """Whether who is asking is a part of the end, and may still begin a call."""

    def unregistered(self, call: RegisteredCall) -> None:
        """A call has come to its end."""

    def look_again(self) -> None:
        """Somebody has left, or need not be waited for."""


class Registry:
    """Counts calls in and out.

    :ivar host: for texts.
    :ivar state: what the client's own ``state`` says.
    :ivar leaving: whether the end has begun, though calls may still be taken.
    :ivar calls: those that are under way.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.state: State = "open"
        self.leaving: bool = False
        self.calls: set[RegisteredCall] = set()
        self._pauses: set[asyncio.Future[None]] = set()
        self._impatient = False
        self._ending: Ending | None = None
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked; one that was closed stays so."""
        kept = (self.calls, self._pauses, self._ending)
        self.calls, self._pauses, self._ending, self._impatient = set(), set(), None, False
        ASKING.set(None)  # what was forked in the middle of a call is no part of it
        if self.state != "closed":
            self.state, self.leaving = "open", False
        return kept

    def register(self, call: RegisteredCall) -> None:
        """Begin a call.

        :raises ClientClosedError: the client takes no new work. A call that is part of work under way may
            still begin: an introspection before a query, what a hook or a callback sends.
        """
        if call.internal:
            return
        if self.state != "open" and call.parent not in self.calls and not self._is_part_of_the_end():
            self.admit()
        self.calls.add(call)

    def _is_part_of_the_end(self) -> bool:
        return self.state == "draining" and self._ending is not None and self._ending.admits()

    def admit(self) -> None:
        """Let new work in.

        :raises ClientClosedError: the client takes none.
        """
        if self.state != "open":
            raise ClientClosedError(
                f"The client for {self.host} is {self.state} and takes no new calls. "
                "Make a new client, or close this one later."
            )

    def unregister(self, call: RegisteredCall) -> None:
        """End a call; one that was never let in is none."""
        if self._ending is None:
            self.calls.discard(call)
        elif call in self.calls:
            self.calls.remove(call)
            self._ending.unregistered(call)

    async def pause(self, seconds: float, waiter: asyncio.Future[None] | None = None) -> bool:
        """Wait; False if nobody has the time for that any more. Safe to cancel.

        :param waiter: one that somebody may end sooner; None: nobody.
        """
        if self._impatient:
            return False
        if waiter is None:
            waiter = asyncio.get_running_loop().create_future()
        handle = clock.wake(waiter, seconds)
        self._pauses.add(waiter)
        try:
            await waiter
        finally:
            handle.cancel()
            self._pauses.discard(waiter)
        return not self._impatient

    def give_up_waiting(self) -> None:
        """Calls that wait for their next attempt raise their last failure instead."""
        self._impatient = True
        for waiter in list(self._pauses):
            call_on(waiter.get_loop(), clock.end, waiter)

    def look_again(self) -> None:
        """Somebody has left, or need not be waited for; whoever waits for that counts anew."""
        if self._ending is not None:
            self._ending.look_again()

    def begin_end(self, ending: Ending) -> None:
        """Take no new calls; the end hears of those that leave."""
        self.state = "draining"
        self._ending = ending

    def become(self, state: State) -> None:
        """Say how far the end has come."""
        self.state = state
