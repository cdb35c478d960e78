"""Headers from a provider: asked for every attempt, one flight at a time, renewed once when refused."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphql_prod.call import CURRENT
from graphql_prod.errors import ConfigurationError, TransportError
from graphql_prod.headers import TWICE, problems

Headers = Mapping[str, str]
HeadersProvider = Callable[..., Headers | Awaitable[Headers]]

# Apollo's code, and Hasura's.
AUTH_ERROR_CODES = frozenset({"UNAUTHENTICATED", "invalid-jwt"})


class ProviderError(Exception):
    """The provider failed; its own exception is the cause. Nothing was sent."""


def provider_failed(host: str, error: ProviderError) -> TransportError:
    """The error that a caller sees; raised from the provider's own."""
    if error.args:
        return TransportError(f"Nothing was sent to {host}: its headers_provider gave {error}.")
    return TransportError(
        f"Nothing was sent to {host}: its headers_provider failed with a "
        f"{type(error.__cause__).__name__}. See the cause of this error."
    )


class _OverdueError(Exception):
    """A flight took longer than the call that started it may take."""


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[tuple[Headers, int]]
    waiting: int = 0


class Credentials:
    """Asks a provider for headers, and knows whether what an attempt used has been renewed since.

    :ivar generation: counts renewals. An attempt that was refused with an older generation asks plainly:
        somebody else's renewal came in between, and one is enough for all.
    """

    def __init__(self, provider: HeadersProvider) -> None:
        if not callable(provider):
            raise ConfigurationError(
                f"headers_provider must be a callable that returns headers, not {type(provider).__name__}"
            )
        self._provider = provider
        self._renew = renewing(provider)
        self._flight: _Flight | None = None
        self._refused_waiting = 0
        """Callers whose headers were refused and who wait for a flight to end: the next one is a renewal."""
        self.generation = 0
        self.latest: Headers = {}
        """What it gave last, for whoever must not show it."""

    async def headers(self, refused: int | None, limit: float | None) -> tuple[Headers, int]:
        """Headers for an attempt, and the generation they belong to.

        :param refused: the generation that the server refused; None for a first attempt.
        :param limit: seconds after which a provider that is asked now is given up; None for no limit.
        :raises ProviderError: the provider failed. Safe to cancel: others go on waiting.
        """
        # Each round waits for a flight that is not done, so the loop never goes on without yielding.
        while (flight := self._current()) is not None:
            waits_for_another = refused is not None and refused >= self.generation
            self._refused_waiting += waits_for_another
            try:
                given = await self._landing(flight)
            except _OverdueError:
                continue  # its starter's time is up, and ours is not
            finally:
                self._refused_waiting -= waits_for_another
            if refused is None or refused < given[1]:
                return given
        renews = self._refused_waiting > 0 or (refused is not None and refused >= self.generation)
        answer = self._ask(self._renew if renews else {})
        if inspect.isawaitable(answer):
            self._flight = flight = self._start(answer, limit, renews=renews)
            try:
                return await self._landing(flight)
            except _OverdueError as error:
                raise ProviderError from error.__cause__
        headers = self.latest = _checked(answer)
        self.generation += renews
        return headers, self.generation

    def _ask(self, arguments: dict[str, Any]) -> Headers | Awaitable[Headers]:
        try:
            return self._provider(**arguments)
        except Exception as error:
            raise ProviderError from error

    def _current(self) -> _Flight | None:
        """The flight to wait for. One that is done is none, even before its callbacks have run."""
        flight = self._flight
        if flight is not None and flight.task.done():
            self._flight = flight = None
        if flight is None or flight.task.get_loop() is not asyncio.get_running_loop():
            return None
        return flight

    def _start(self, answer: Awaitable[Headers], limit: float | None, *, renews: bool) -> _Flight:
        # What the provider asks of other clients is no part of the call that happened to start it.
        context = contextvars.copy_context()
        context.run(CURRENT.set, None)
        # Not create_task(): an eager factory would run it before we know it.
        task = asyncio.Task(
            self._fly(answer, limit, renews=renews), loop=asyncio.get_running_loop(), context=context
        )
        task.add_done_callback(functools.partial(self._landed, answer))
        return _Flight(task)

    async def _fly(
        self, answer: Awaitable[Headers], limit: float | None, *, renews: bool
    ) -> tuple[Headers, int]:
        # A second later than the call that asked: whose time is up should hear of its own deadline.
        deadline = asyncio.timeout(None if limit is None else limit + 1)
        try:
            async with deadline:
                headers = self.latest = _checked(await answer)
        except Exception as error:
            if isinstance(error, ProviderError):
                raise
            raise (_OverdueError if deadline.expired() else ProviderError) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ProviderError from error  # the provider's own affair: nobody cancelled the call
        self.generation += renews
        return headers, self.generation  # as of now: another flight may land before all have looked

    def _landed(self, answer: Awaitable[Headers], task: asyncio.Task[Any]) -> None:
        if self._flight is not None and self._flight.task is task:
            self._flight = None
        if inspect.iscoroutine(answer):
            answer.close()  # a task that was cancelled before its first step has never awaited it
        if not task.cancelled():
            task.exception()  # those who waited were told

    async def _landing(self, flight: _Flight) -> tuple[Headers, int]:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if flight.task.cancelled() and task is not None and not task.cancelling():
                raise ProviderError from error  # somebody has cancelled the flight, and nobody this caller
            raise
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                if self._flight is flight:
                    self._flight = None


def _checked(headers: object) -> Headers:
    if not isinstance(headers, Mapping):
        wrong = f"no headers, but {type(headers).__name__}"
        raise ProviderError(wrong) from TypeError(wrong)
    if found := "; ".join(f"'{name}', which {wrong}" for name, wrong in problems(headers)):
        texts = all(isinstance(part, str) for pair in headers.items() for part in pair)
        raise ProviderError(found) from (ValueError if texts else TypeError)(found)
    return headers


def refuse_twice(host: str, headers: Headers) -> None:
    """Nothing, unless a provider gives the credentials that the endpoint's URL has already.

    :raises TransportError: it does.
    """
    if any(name.lower() == "authorization" for name in headers):
        raise TransportError(
            f"Nothing was sent to {host}: its headers_provider gave 'Authorization', which {TWICE}."
        )


def renewing(provider: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a renewal: ``refresh=True`` where the provider takes it."""
    try:
        parameters = inspect.signature(provider).parameters.values()
    except (TypeError, ValueError):
        return {}
    takes = any(p.name == "refresh" or p.kind is p.VAR_KEYWORD for p in parameters)
    return {"refresh": True} if takes else {}
