"""A program's own code that watches: hooks, each given one frozen record."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from graphql_prod.errors import ConfigurationError
from graphql_prod.runtime import logs
from graphql_prod.telemetry.documents import operation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiographql.client import GraphQLRequest

logger: logging.Logger = logging.getLogger("graphql_prod")

NAMES = ("on_attempt", "on_retry", "on_throttled", "on_rejected", "on_state", "on_gap")


@dataclass(frozen=True, slots=True)
class HookRecord:
    """What a hook is told. What does not apply is None.

    :ivar host: ``host`` or ``host:port`` of the upstream.
    :ivar operation_name: the name of the operation; None where it has none, and where it is about none.
    :ivar operation_type: ``"query"``, ``"mutation"`` or ``"subscription"``.
    :ivar attempt: the number of the attempt, from 1 on; of a gap, the attempts that the reconnect took.
    :ivar status: the HTTP status of the answer; of a gap, the close code.
    :ivar reason: a few fixed words for what went wrong, or the name of a state; None after a success.
    :ivar elapsed: seconds since the call began; of a gap, seconds without a connection.
    :ivar wait: seconds until the next attempt.
    """

    host: str
    operation_name: str | None = None
    operation_type: str | None = None
    attempt: int | None = None
    status: int | None = None
    reason: str | None = None
    elapsed: float | None = None
    wait: float | None = None


class ClientHooks(Protocol):
    """What a program may watch; each method is optional. Plain functions, called on the event loop.

    What a hook raises is logged once, and breaks nothing. A hook that takes long holds up the event loop.
    A class that inherits from this one overrides what it wants.
    """

    def on_attempt(self, record: HookRecord) -> None:
        """An attempt has ended, well (``reason`` is None) or not."""
        return

    def on_retry(self, record: HookRecord) -> None:
        """A failed attempt will be repeated after ``wait`` seconds."""
        return

    def on_throttled(self, record: HookRecord) -> None:
        """The upstream, or a limit of the client's own, holds a call back for ``wait`` seconds.

        ``wait`` is None where the call is not repeated.
        """
        return

    def on_rejected(self, record: HookRecord) -> None:
        """A call was not admitted, or a retry was refused: ``reason`` says by what."""
        return

    def on_state(self, record: HookRecord) -> None:
        """A subscription, or the admission of calls, has another state: ``reason`` is its name."""
        return

    def on_gap(self, record: HookRecord) -> None:
        """Events of a subscription may be missing: its connection was lost and is back."""
        return


class _OnAttempt(Protocol):
    def on_attempt(self, record: HookRecord, /) -> None: ...


class _OnRetry(Protocol):
    def on_retry(self, record: HookRecord, /) -> None: ...


class _OnThrottled(Protocol):
    def on_throttled(self, record: HookRecord, /) -> None: ...


class _OnRejected(Protocol):
    def on_rejected(self, record: HookRecord, /) -> None: ...


class _OnState(Protocol):
    def on_state(self, record: HookRecord, /) -> None: ...


class _OnGap(Protocol):
    def on_gap(self, record: HookRecord, /) -> None: ...


Watcher = ClientHooks | _OnAttempt | _OnRetry | _OnThrottled | _OnRejected | _OnState | _OnGap
"""An object with any of the methods of :class:`ClientHooks`."""


Watchers = tuple["Callable[[HookRecord], object]", ...]


class Hooks:
    """The hooks of a client, by what they watch."""

    def __init__(self, watchers: Iterable[object], host: str) -> None:
        self.host = host
        self._failed: set[int] = set()
        found: dict[str, Watchers] = dict.fromkeys(NAMES, ())
        for watcher in watchers:
            for name, method in _methods_of(watcher):
                found[name] = (*found[name], method)
        self.on_attempt: Watchers = found["on_attempt"]
        self.on_retry: Watchers = found["on_retry"]
        self.on_throttled: Watchers = found["on_throttled"]
        self.on_rejected: Watchers = found["on_rejected"]
        self.on_state: Watchers = found["on_state"]
        self.on_gap: Watchers = found["on_gap"]

    def tell(
        self,
        hooks: tuple[Callable[[HookRecord], object], ...],
        request: GraphQLRequest | None,
        attempt: int | None = None,
        status: int | None = None,
        reason: str | None = None,
        elapsed: float | None = None,
        wait: float | None = None,
    ) -> None:
        """Call some of the hooks."""
        if not hooks:
            return
        kind, name = (None, None) if request is None else operation_of(request.query, request.operationName)
        record = HookRecord(self.host, name, kind, attempt, status, reason, elapsed, wait)
        for hook in hooks:
            try:
                hook(record)
            except Exception:  # noqa: BLE001 -- a hook of the program's may raise anything
                self._log_failure(hook)

    def _log_failure(self, hook: Callable[[HookRecord], object]) -> None:
        if id(hook) in self._failed:
            return
        self._failed.add(id(hook))
        name = getattr(hook, "__qualname__", type(hook).__qualname__)
        logger.exception(
            "the hook %s of the client for %s failed; calls are not affected. It is logged this once",
            name,
            self.host,
            extra=logs.facts(host=self.host, hook=name),
        )


def hooks_of(given: object, host: str) -> Hooks | None:
    """The hooks that a program gives: None, one object, or several.

    :raises ConfigurationError: one of them has no method of a hook, or one that is a coroutine function.
    """
    if given is None:
        return None
    several = isinstance(given, list | tuple | set | frozenset)
    watchers: Iterable[Any] = given if several else (given,)  # type: ignore[assignment]
    watchers = tuple(watchers)
    return Hooks(watchers, host) if watchers else None


def _methods_of(watcher: object) -> list[tuple[str, Callable[[HookRecord], object]]]:
    found: list[tuple[str, Callable[[HookRecord], object]]] = []
    for name in NAMES:
        method = getattr(watcher, name, None)
        if method is None or getattr(method, "__func__", None) is getattr(ClientHooks, name):
            continue  # the empty one that a subclass has left as it is
        if not callable(method):
            raise ConfigurationError(f"hooks: {name} of {_kind(watcher)} must be a function")
        if inspect.iscoroutinefunction(method):
            raise ConfigurationError(
                f"hooks: {name} of {_kind(watcher)} must be a plain function, not a coroutine function: no "
                "call waits for a hook. Let it begin a task, or put the record into a queue"
            )
        found.append((name, method))
    if not found and not _is_empty_subclass(watcher):
        raise ConfigurationError(
            f"hooks: {_kind(watcher)} has none of the methods of a hook; known are {', '.join(NAMES)}"
        )
    return found


def _is_empty_subclass(watcher: object) -> bool:
    return ClientHooks in type(watcher).__mro__


def _kind(watcher: object) -> str:
    return watcher.__name__ if isinstance(watcher, type) else type(watcher).__name__
