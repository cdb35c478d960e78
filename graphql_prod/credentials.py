"""Headers from a provider: asked for every attempt, one flight at a time, renewed once when refused."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

from opentelemetry import context as telemetry
from opentelemetry import trace

from graphql_prod.errors import ConfigurationError, TransportError
from graphql_prod.headers import TWICE, problems, texts
from graphql_prod.renewals import Renewals

Headers = Mapping[str, str]
HeadersProvider = Callable[..., Headers | Awaitable[Headers]]

# Of the causes of an exception, so many are looked at.
_LINKS = 16


class Given(NamedTuple):
    """What a provider gave, and how many renewals there had been by then."""

    headers: Headers
    generation: int

    def __repr__(self) -> str:
        return f"<Given headers={list(self.headers)} generation={self.generation}>"


class ProviderError(Exception):
    """The provider failed; its own exception is the cause. Nothing was sent.

    :ivar bare: whether it was asked in an empty context.
    """

    bare = False


class CalledItselfError(ProviderError):
    """The provider called the client that has to ask it first."""


def provider_failed(host: str, error: ProviderError, before: str = "", after: str = "") -> TransportError:
    """The error that a caller sees; raised from the provider's own.

    :param before: what was not done because of it; empty means that nothing was sent.
    :param after: what a person should know of the call.
    """
    before = before or f"Nothing was sent to {host}"
    links = [error, *_links(error.__cause__)]
    if any(isinstance(link, CalledItselfError) for link in links):
        return TransportError(
            f"{before}: its headers_provider called the client that it belongs to, which would have to ask "
            f"it again.{after} Let it use another client, or a view with a provider of its own: "
            "client.with_options(headers_provider=…)."
        )
    if error.args:
        return TransportError(f"{before}: its headers_provider gave {error}.{after}")
    what = f"{before}: its headers_provider failed with a {type(error.__cause__).__name__}.{after}"
    if error.bare and any(type(link) is LookupError for link in links):
        return TransportError(
            f"{what} An async provider answers all callers at once, so it runs in an empty context and sees "
            "no ContextVar of theirs. For credentials by user give each user a view: "
            "client.with_options(headers=…) or client.with_options(headers_provider=…). A sync provider runs "
            "in its caller's context."
        )
    return TransportError(f"{what} See the cause of this error.")


def _links(error: BaseException | None) -> list[BaseException]:
    """An exception, what it came from, and so on."""
    links: list[BaseException] = []
    while error is not None and error not in links and len(links) < _LINKS:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


class _OverdueError(Exception):
    """A flight took longer than the call that started it may take."""


class _Asking:
    """A provider at work, for whatever it begins: a call of its own client would wait for itself.

    :ivar credentials: whose provider; None once it has answered. Tasks that it left behind may call what they
        like, and keep nothing of it.
    """

    __slots__ = ("credentials", "within")

    def __init__(self, credentials: Credentials) -> None:
        self.credentials: Credentials | None = credentials
        within = _ASKING.get()
        while within is not None and within.credentials is None:
            within = within.within
        self.within: _Asking | None = within


_ASKING: ContextVar[_Asking | None] = ContextVar("graphql_prod_asking", default=None)


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Given]
    waiting: int = 0


class Credentials:
    """Asks a provider for headers, and knows whether what an attempt used has been renewed since.

    A sync provider is asked in the context of whoever needs headers, for that caller alone. An async one
    answers all who wait, so nothing of one caller's context may reach it: it is asked in an empty one.

    :ivar is_async: whether the provider's answers have to be awaited. Of a plain function that is known only
        after its first answer. That one was made in somebody's context: it is thrown away, not awaited.
    :ivar generation: counts renewals. An attempt that was refused with an older generation asks plainly:
        somebody else's renewal came in between, and one is enough for all.
    :ivar renewals: those that did not help.
    :ivar beneath: headers of the view that the provider was given to: they rank below what it gives.
    """

    def __init__(self, provider: HeadersProvider, beneath: Headers | None = None) -> None:
        if not callable(provider):
            raise ConfigurationError(
                f"headers_provider must be a callable that returns headers, not {type(provider).__name__}"
            )
        self.provider = provider
        self._renew = renewing(provider)
        self._flight: _Flight | None = None
        self._refused: list[int] = []
        """What those were refused with who wait for a flight to end: the next one is a renewal, for them."""
        self.is_async: bool = _is_async(provider)
        self.generation: int = 0
        self.renewals: Renewals = Renewals()
        self.beneath = beneath
        self.latest: Headers = {}
        """What it gave last, for whoever must not show it."""

    @property
    def asking(self) -> bool:
        """Whether it is the provider's own code that is running, or something that it waits for."""
        asking = _ASKING.get()
        while asking is not None:
            if asking.credentials is self:
                return True
            asking = asking.within
        return False

    def refuse_itself(self) -> None:
        """Nothing, unless the provider asks for what waits for the provider.

        :raises CalledItselfError: it does.
        """
        if _ASKING.get() is not None and self.asking:
            raise CalledItselfError

    def scope(self, given: Given) -> int | None:
        """Whose credentials they are, as far as renewals go: a sync provider may have those of many users."""
        return None if self.is_async else self.renewals.scope_of(given.headers)

    async def headers(self, refused: Given | None, limit: float | None) -> Given:
        """Headers for an attempt.

        :param refused: what the server refused; None for a first attempt.
        :param limit: seconds after which a provider that is asked now is given up; None for no limit.
        :raises ProviderError: the provider failed. Safe to cancel: others go on waiting.
        """
        self.refuse_itself()
        given = self.given_now(refused)
        if given is not None:
            return given
        # Each round waits for a flight that is not done, so the loop never goes on without yielding.
        while (flight := self._current()) is not None:
            if refused is not None:
                self._refused.append(refused.generation)
            try:
                given = await self._landing(flight)
            except _OverdueError:
                continue  # its starter's time is up, and ours is not
            finally:
                if refused is not None:
                    self._refused.remove(refused.generation)
            if refused is None or refused.generation < given.generation:
                return given
        wanted = self._refused if refused is None else [refused.generation, *self._refused]
        return await self._flown(limit, renews=any(each >= self.generation for each in wanted))

    def given_now(self, refused: Given | None = None) -> Given | None:
        """What a sync provider gives, in the context that is current; None if the provider is async.

        :param refused: what the server refused; None for a first attempt.
        :raises ProviderError: the provider failed.
        """
        if self.is_async:
            return None
        # Of renewals that came in between, all may have been other users'.
        headers = None
        if refused is None or refused.generation < self.generation:
            headers = self._asked_here({})
        if refused is not None and not self.is_async:
            if headers is None or headers == refused.headers:
                headers = self._asked_here(self._renew)
                if headers is not None:
                    self._renewed()
            if headers is not None:
                self.renewals.replaced(refused.headers, headers)
        return None if headers is None else Given(headers, self.generation)

    def _asked_here(self, arguments: dict[str, Any]) -> Headers | None:
        asking = _Asking(self)
        token = _ASKING.set(asking)
        try:
            answer = self._ask(arguments)
        finally:
            asking.credentials = None
            _ASKING.reset(token)
        if inspect.isawaitable(answer):
            self.is_async = True
            _discard(answer)
            return None
        self.latest = _checked(answer)
        return self.latest

    def _ask(self, arguments: dict[str, Any]) -> Headers | Awaitable[Headers]:
        try:
            return self.provider(**arguments)
        except Exception as error:
            raise self._failed(error) from error
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise self._failed(error) from error

    def _renewed(self) -> None:
        self.generation += 1
        self.renewals.begun()

    def _failed(self, error: BaseException) -> ProviderError:
        failed = ProviderError()
        failed.bare = self.is_async
        failed.__cause__ = error
        return failed

    def _current(self) -> _Flight | None:
        """The flight to wait for. One that is done is none, even before its callbacks have run."""
        flight = self._flight
        if flight is not None and flight.task.done():
            self._flight = flight = None
        if flight is None or flight.task.get_loop() is not asyncio.get_running_loop():
            return None
        return flight

    async def _flown(self, limit: float | None, *, renews: bool) -> Given:
        asking, context = _Asking(self), bare_context()
        context.run(_ASKING.set, asking)
        try:
            answer = context.run(self._ask, self._renew if renews else {})
        except BaseException:
            asking.credentials = None
            raise
        if not inspect.isawaitable(answer):  # it had headers at hand
            asking.credentials = None
            headers = self.latest = _checked(answer)
            if renews:
                self._renewed()
            return Given(headers, self.generation)
        flying = self._fly(answer, asking, limit, renews=renews)
        # Not create_task(): an eager factory would run it before we know it.
        task = asyncio.Task(flying, loop=asyncio.get_running_loop(), context=context)
        task.add_done_callback(functools.partial(self._landed, answer))
        self._flight = flight = _Flight(task)
        try:
            return await self._landing(flight)
        except _OverdueError as error:
            raise self._failed(error) from error.__cause__

    async def _fly(
        self, answer: Awaitable[Headers], asking: _Asking, limit: float | None, *, renews: bool
    ) -> Given:
        # A second later than the call that asked: whose time is up should hear of its own deadline.
        deadline = asyncio.timeout(None if limit is None else limit + 1)
        try:
            async with deadline:
                headers = self.latest = _checked(await answer)
        except Exception as error:
            if isinstance(error, ProviderError):
                raise
            raise (_OverdueError() if deadline.expired() else self._failed(error)) from error
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            raise self._failed(error) from error  # the provider's own affair: nobody cancelled the call
        finally:
            asking.credentials = None
        if renews:
            self._renewed()
        return Given(headers, self.generation)  # as of now: another flight may land before all have looked

    def _landed(self, answer: Awaitable[Headers], task: asyncio.Task[Given]) -> None:
        if self._flight is not None and self._flight.task is task:
            self._flight = None
        if inspect.iscoroutine(answer):
            answer.close()  # a task that was cancelled before its first step has never awaited it
        if not task.cancelled():
            task.exception()  # those who waited were told

    async def _landing(self, flight: _Flight) -> Given:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError as error:
            if flight.task.cancelled() and not _is_cancelled():
                raise self._failed(error) from error  # somebody has cancelled the flight, and not its callers
            raise
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()
                if self._flight is flight:
                    self._flight = None


def bare_context() -> contextvars.Context:
    """An empty context, but for the current span: what is done for many knows nothing of one caller."""
    context, span = contextvars.Context(), trace.get_current_span()
    if span is not trace.INVALID_SPAN:
        context.run(telemetry.attach, trace.set_span_in_context(span, telemetry.Context()))
    return context


def _is_cancelled() -> bool:
    """Whether somebody cancels the task that runs."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _discard(answer: Awaitable[Any]) -> None:
    """Let go of what nobody will await."""
    if inspect.iscoroutine(answer):
        answer.close()
    elif isinstance(answer, asyncio.Future):  # not cancelled: a provider may hand the same one out again
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())


def _checked(headers: object) -> Headers:
    if not isinstance(headers, Mapping):
        wrong = f"no headers, but {type(headers).__name__}"
        raise ProviderError(wrong) from TypeError(wrong)
    if found := "; ".join(f"'{name}', which {wrong}" for name, wrong in problems(headers)):
        written = all(isinstance(part, str) for pair in headers.items() for part in pair)
        raise ProviderError(found) from (ValueError if written else TypeError)(found)
    return texts(headers)


def refuse_twice(host: str, headers: Headers) -> None:
    """Nothing, unless a provider gives the credentials that the endpoint's URL has already.

    :raises TransportError: it does.
    """
    if any(name.lower() == "authorization" for name in headers):
        raise TransportError(
            f"Nothing was sent to {host}: its headers_provider gave 'Authorization', which {TWICE}."
        )


def _is_async(provider: HeadersProvider) -> bool:
    """Whether its answer is known to be awaitable before it is asked."""
    if inspect.isclass(provider):
        return False
    while isinstance(provider, functools.partial):
        provider = provider.func
    return inspect.iscoroutinefunction(provider) or inspect.iscoroutinefunction(
        getattr(provider, "__call__", None)  # noqa: B004 -- not whether it can be called, but how
    )


def renewing(provider: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a renewal: ``refresh=True`` where the provider takes it."""
    try:
        parameters = inspect.signature(provider).parameters.values()
    except (TypeError, ValueError):
        return {}
    takes = any(p.name == "refresh" or p.kind is p.VAR_KEYWORD for p in parameters)
    return {"refresh": True} if takes else {}
