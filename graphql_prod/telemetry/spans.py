"""The spans of calls and subscriptions, and what metrics say of each."""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

from opentelemetry import context, propagate, trace

from graphql_prod.telemetry.error_types import (
    ERROR,
    ErrorType,
    end_span,
    error_type,
    errors_of,
    metric_word,
    of_errors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Span

    from graphql_prod.telemetry.instruments import Attributes, Instruments

logger: logging.Logger = logging.getLogger("graphql_prod")
Reported = ParamSpec("Reported")

FAILED = "telemetry has failed in the program's SDK; calls and subscriptions are not affected"


class WatchedCall(Protocol):
    """What a span says of a call."""

    started: float
    attempts: int

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""


class FailedAttempt(Protocol):
    """What a span says of an attempt that is repeated."""

    @property
    def reason(self) -> str:
        """A few fixed words."""


class Gap(Protocol):
    """What a span says of a gap in a subscription's events."""

    @property
    def close_code(self) -> int | None:
        """The code that the connection was closed with."""

    @property
    def down_for(self) -> float:
        """Seconds without a connection."""

    @property
    def attempts(self) -> int:
        """Attempts to connect; 0 where the connection was not lost."""

    @property
    def dropped(self) -> int:
        """Events that a full queue threw away."""


def harmless(report: Callable[Reported, None]) -> Callable[Reported, None]:
    """What an SDK raises does not reach the call that is reported to it."""

    @functools.wraps(report)
    def reported(*args: Reported.args, **kwargs: Reported.kwargs) -> None:
        try:
            report(*args, **kwargs)
        except Exception:
            logger.exception(FAILED)

    return reported


class HeaderInjector:
    """An exchange whose request carries further headers: those of the trace."""

    __slots__ = ("_exchange", "_headers")

    def __init__(self, exchange: Any, headers: Mapping[str, str]) -> None:
        self._exchange = exchange
        self._headers = headers

    def request(self, *args: Any, headers: Mapping[str, str], **options: Any) -> Any:
        return self._exchange.request(*args, headers={**headers, **self._headers}, **options)


class OperationSpan:
    """The span of one call, and what metrics say of it."""

    __slots__ = ("_attributes", "_call", "_context", "_instruments", "_span", "_token")

    def __init__(
        self,
        call: WatchedCall,
        instruments: Instruments | None,
        attributes: Attributes,
        span: Span | None,
    ) -> None:
        self._instruments = instruments
        self._call = call
        self._attributes = attributes
        self._span = span
        self._context = None if span is None else trace.set_span_in_context(span)
        self._token = None if self._context is None else context.attach(self._context)
        if instruments is not None:
            instruments.active.register(self, attributes)

    @property
    def wants_http_spans(self) -> bool:
        """Whether somebody would see a span of each attempt."""
        return self._span is not None and _is_recording(self._span)

    def with_trace(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of a request that makes no HTTP span: they carry the trace."""
        return headers if self._context is None else {**headers, **self.carrier()}

    def carrying(self, exchange: object) -> object:
        """What stands in for an exchange that makes no HTTP span: its request carries the trace."""
        return exchange if self._context is None else HeaderInjector(exchange, self.carrier())

    def carrier(self) -> dict[str, str]:
        """Headers that take the trace along."""
        return {} if self._context is None else _injected(self._context)

    @harmless
    def retry(self, attempt: FailedAttempt, wait: float) -> None:
        """An attempt is repeated; the wait is over."""
        if self._span is not None:
            self._span.add_event(
                "retry", {"attempt": self._call.attempts, "wait": wait, "reason": attempt.reason}
            )
        instruments = self._instruments
        if instruments is not None:
            attributes = {**self._attributes, "reason": attempt.reason}
            instruments.retries.add(1, attributes)
            instruments.retry_delay.record(wait, attributes)

    @harmless
    def throttled(self, reason: str, wait: float | None) -> None:
        """The upstream, or a limit of our own, holds the call back.

        :param wait: seconds; None where the call is not repeated.
        """
        if self._span is not None:
            known: dict[str, Any] = {"attempt": self._call.attempts, "reason": reason}
            self._span.add_event("throttled", known if wait is None else {**known, "wait": wait})
        instruments = self._instruments
        if instruments is not None:
            attributes = {**self._attributes, "reason": reason}
            instruments.throttled.add(1, attributes)
            if wait is not None:
                instruments.throttle_delay.record(wait, attributes)

    @harmless
    def not_admitted(self) -> None:
        """The call, or its next attempt, is not sent."""
        if self._instruments is not None:
            self._instruments.admission_rejections.add(1, self._attributes)

    @harmless
    def refused_by_budget(self) -> None:
        """A retry was due, and the budget had none left."""
        if self._instruments is not None:
            self._instruments.budget_rejections.add(1, self._attributes)

    def end(self, error: BaseException | None, answer: object) -> None:
        """The call has ended."""
        try:
            self._report(error_type(error, answer), errors_of(error, answer))
        except Exception:
            logger.exception("the end of a call could not be told to telemetry")
        finally:
            if self._token is not None:
                context.detach(self._token)

    def _report(self, kind: ErrorType | None, errors: list[Any]) -> None:
        instruments = self._instruments
        if instruments is not None:
            instruments.active.unregister(self, self._attributes)
            attributes = self._attributes
            if kind is not None:
                attributes = {**attributes, ERROR: metric_word(instruments, kind)}
            instruments.duration.record(self._call.elapsed, attributes)
        if self._span is not None:
            end_span(self._span, kind, errors)


class SubscriptionSpan:
    """The span of one subscription, from subscribing to its end, and what metrics say of it."""

    __slots__ = ("_attributes", "_errors", "_instruments", "_refused", "_span", "context")

    def __init__(self, instruments: Instruments | None, attributes: Attributes, span: Span | None) -> None:
        self._instruments = instruments
        self._attributes = attributes
        self._refused: ErrorType | None = None
        self._errors: list[Any] = []
        self._span = span
        current = context.get_current()
        self.context: context.Context = (
            current if self._span is None else trace.set_span_in_context(self._span, current)
        )
        if instruments is not None:
            instruments.subscriptions.add(1, attributes)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """What is begun inside carries the trace of this subscription."""
        token = context.attach(self.context)
        try:
            yield
        finally:
            context.detach(token)

    def event(self) -> None:
        """An event came."""
        if self._instruments is not None:
            try:
                self._instruments.events.add(1, self._attributes)
            except Exception:
                logger.exception(FAILED)
                self._instruments = None

    @harmless
    def gap(self, gap: Gap) -> None:
        """Events may be missing: the connection was lost and is back."""
        if self._span is not None:
            known = {
                "close_code": gap.close_code,
                "down_for": gap.down_for,
                "attempts": gap.attempts,
                "dropped": gap.dropped,
            }
            self._span.add_event("gap", {key: value for key, value in known.items() if value is not None})
        if self._instruments is not None and gap.attempts:
            self._instruments.reconnects.add(1, self._attributes)

    @harmless
    def dropped(self) -> None:
        """A full queue threw an event away."""
        if self._instruments is not None:
            self._instruments.dropped.add(1, self._attributes)

    def refused(self, errors: object) -> None:
        """The server ends it with errors."""
        self._refused = of_errors(errors)
        self._errors = errors if isinstance(errors, list) else []

    def end(self, error: BaseException | None) -> None:
        """The subscription has ended."""
        try:
            if self._span is not None:
                errors = self._errors or errors_of(error, None)
                end_span(self._span, self._refused or error_type(error, None), errors)
        except Exception:
            logger.exception("the end of a subscription could not be told to telemetry")
        self._uncount()

    @harmless
    def _uncount(self) -> None:
        if self._instruments is not None:
            self._instruments.subscriptions.add(-1, self._attributes)


def inject(headers: dict[str, str]) -> dict[str, str]:
    """The headers with the trace context that is current; where there is none, as they are."""
    carrier = _injected(None)
    return {**headers, **carrier} if carrier else headers


def _injected(current: context.Context | None) -> dict[str, str]:
    """What carries a trace; nothing where the program's propagator fails."""
    carrier: dict[str, str] = {}
    try:
        propagate.inject(carrier, current)
    except Exception:
        logger.exception(FAILED)
        return {}
    return carrier


def _is_recording(span: Span) -> bool:
    try:
        return span.is_recording()
    except Exception:
        logger.exception(FAILED)
        return False
