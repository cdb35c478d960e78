"""Whether anybody listens, and what is told to them of calls and subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ParamSpec

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from graphql_prod import clock
from graphql_prod._version import __version__
from graphql_prod.errors import HTTPStatusError
from graphql_prod.sessions.exchange import HeaderInjector
from graphql_prod.telemetry.documents import NAME_LIMIT, CardinalityLimiter, operation_of, sanitized
from graphql_prod.telemetry.instruments import Attributes, Instruments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiographql.client import GraphQLRequest
    from aiographql.client.transport import GraphQLSession
    from opentelemetry.trace import Span, Tracer

    from graphql_prod.calls.call import Call
    from graphql_prod.resilience.retry import AttemptOutcome
    from graphql_prod.sessions.session import Session, Sessions
    from graphql_prod.subscriptions.events import SubscriptionGap
    from graphql_prod.telemetry.policy import TelemetryPolicy

logger = logging.getLogger("graphql_prod")
Watched = ParamSpec("Watched")

SCOPE = "graphql_prod"
TYPE, NAME, DOCUMENT, ERROR = (
    "graphql.operation.type",
    "graphql.operation.name",
    "graphql.document",
    "error.type",
)

GRAPHQL_ERROR = "GraphQLError"
"""The server answered, with errors."""

# Seconds between two looks for an SDK, until there is one: a look costs some microseconds, a call about 200.
LOOK_INTERVAL = 1.0

_STATUSES = frozenset(map(int, HTTPStatus))

_FAILED = "telemetry has failed in the program's SDK; calls and subscriptions are not affected"


def _harmless(tell: Callable[Watched, None]) -> Callable[Watched, None]:
    """What an SDK raises that is told something shall not reach whoever tells it."""

    @functools.wraps(tell)
    def told(*args: Watched.args, **kwargs: Watched.kwargs) -> None:
        try:
            tell(*args, **kwargs)
        except Exception:
            logger.exception(_FAILED)

    return told


class Telemetry:
    """What a client and its views tell OpenTelemetry. Silent, and next to free, until there is an SDK.

    :ivar tracer: None while nobody listens to spans.
    :ivar instruments: None while nobody listens to metrics.
    """

    def __init__(self, policy: TelemetryPolicy, sessions: Sessions, *, owned: bool) -> None:
        self.policy = policy
        self.tracer: Tracer | None = None
        self.instruments: Instruments | None = None
        self._sessions = sessions
        self._owned = owned
        self._names = CardinalityLimiter()
        self._look_at = float("-inf") if policy.traces or policy.metrics else float("inf")
        self._enabled: Callable[[], bool] | None = None
        """Whether whoever calls has not switched instrumentation off; None while nobody listens."""
        if policy.traces or policy.metrics:
            self._look(clock.monotonic())  # the contrib takes its time to import: better now than in a call

    def call(
        self,
        call: Call,
        request: GraphQLRequest | None,
        operation: str | None,
        session: GraphQLSession | None,
    ) -> OperationSpan | None:
        """Begin to watch a call; None while nobody listens.

        :param session: one that a caller gave for this call alone.
        """
        if call.started >= self._look_at:
            self._look(call.started)
        if self._enabled is None or not self._enabled():
            return None
        try:
            return OperationSpan(self, call, request, operation, session)
        except Exception:  # noqa: BLE001 -- a span processor of the program's may raise anything
            self._give_up()
            return None

    def subscription(self, request: GraphQLRequest) -> SubscriptionWatch | None:
        """Begin to watch a subscription; None while nobody listens."""
        now = clock.monotonic()
        if now >= self._look_at:
            self._look(now)
        if self._enabled is None or not self._enabled():
            return None
        try:
            return SubscriptionWatch(self, request)
        except Exception:  # noqa: BLE001 -- a span processor of the program's may raise anything
            self._give_up()
            return None

    @_harmless
    def introspected(self, error: BaseException | None) -> None:
        """The schema was asked for."""
        if self.instruments is not None and self._enabled is not None and self._enabled():
            kind = _error_type(error, None)
            self.instruments.schema_refreshes.add(1, {} if kind is None else {ERROR: kind})

    def kind_over(self, session: GraphQLSession | None) -> SpanKind:
        """The kind of a call's span: INTERNAL where HTTP spans lie below it."""
        if session is None and self._owned:
            return SpanKind.INTERNAL if self.policy.http_spans else SpanKind.CLIENT
        from graphql_prod.telemetry.http_spans import is_instrumented

        given = session or self._sessions.given
        return SpanKind.INTERNAL if given is not None and is_instrumented(given) else SpanKind.CLIENT

    def described(self, request: GraphQLRequest | None, operation: str | None) -> Attributes:
        """Type and name of an operation, for metrics and for spans."""
        if request is None:
            return {}
        kind, name = operation_of(request.query, operation or request.operationName)
        attributes = {} if kind is None else {TYPE: kind}
        if name is not None:
            attributes[NAME] = self._names.bounded(name)
        return attributes

    def start_span(
        self, attributes: Attributes, request: GraphQLRequest | None, kind: SpanKind
    ) -> Span | None:
        """A span of its own; the caller's is its parent."""
        if self.tracer is None:
            return None
        name = attributes.get(TYPE, "GraphQL Operation")
        if self.policy.operation_name_in_span and NAME in attributes:
            name = f"{name} {attributes[NAME]}"
        span = self.tracer.start_span(name, kind=kind, attributes=attributes)
        if request is not None and self.policy.document != "off" and span.is_recording():
            text = request.query if self.policy.document == "full" else sanitized(request.query)
            if text:
                span.set_attribute(DOCUMENT, text)
        return span

    def _look(self, now: float) -> None:
        """See whether the program has set up an SDK; once it has, it cannot be taken away again."""
        self._look_at = now + LOOK_INTERVAL
        try:
            self._find()
        except Exception:  # noqa: BLE001 -- an SDK that is broken may raise anything
            self._give_up()

    def _give_up(self) -> None:
        """Be silent from now on: what cannot be told shall not break what it would be told of."""
        self._look_at, self._enabled = float("inf"), None
        logger.exception("telemetry is off: the program's SDK failed; calls are not affected")

    def _find(self) -> None:
        before = (self.tracer, self.instruments)
        if self.tracer is None and self.policy.traces and _is_real(trace.get_tracer_provider()):
            tracer = trace.get_tracer(SCOPE, __version__)
            self.tracer = None if isinstance(tracer, trace.NoOpTracer) else tracer
        if self.instruments is None and self.policy.metrics and _is_real(metrics.get_meter_provider()):
            meter = metrics.get_meter(SCOPE, __version__)
            self.instruments = None if isinstance(meter, metrics.NoOpMeter) else Instruments(meter)
        traces = self.tracer is not None or not self.policy.traces
        if traces and (self.instruments is not None or not self.policy.metrics):
            self._look_at = float("inf")
        if (self.tracer, self.instruments) != before:
            self._attach()

    def _attach(self) -> None:
        """HTTP spans from here on, on sessions that are open already too."""
        # The contrib packages are imported only when there is somebody to tell.
        from opentelemetry.instrumentation.utils import is_instrumentation_enabled

        self._enabled = is_instrumentation_enabled
        if self.tracer is not None and self.policy.http_spans and self._owned:
            from graphql_prod.telemetry.http_spans import http_trace_config

            self._sessions.observe(http_trace_config())


class OperationSpan:
    """One call, watched."""

    __slots__ = ("_attributes", "_call", "_context", "_instruments", "_span", "_token")

    def __init__(
        self,
        observer: Telemetry,
        call: Call,
        request: GraphQLRequest | None,
        operation: str | None,
        session: GraphQLSession | None,
    ) -> None:
        self._instruments = observer.instruments
        self._call = call
        self._attributes = observer.described(request, operation)
        self._span = span = observer.start_span(self._attributes, request, observer.kind_over(session))
        self._context = None if span is None else trace.set_span_in_context(span)
        self._token = None if self._context is None else context.attach(self._context)
        if observer.instruments is not None:
            observer.instruments.active.enter(self, self._attributes)

    def exchange(self, session: Session, call: Call) -> object:
        """What stands in for the session: one that makes an HTTP span, or one that carries the trace."""
        if self._span is not None and _is_recording(self._span):
            traced = session.traced_exchange()
            if traced is not None:
                call.exchange = traced
                return traced
        exchange = call.exchange = session.exchange()
        return exchange if self._context is None else HeaderInjector(exchange, self.carrier())

    def carrier(self) -> dict[str, str]:
        """Headers that take the trace along."""
        return {} if self._context is None else _injected(self._context)

    @_harmless
    def retry(self, attempt: AttemptOutcome, wait: float) -> None:
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

    @_harmless
    def refused_by_budget(self) -> None:
        """A retry was due, and the budget had none left."""
        if self._instruments is not None:
            self._instruments.budget_rejections.add(1, self._attributes)

    def end(self, error: BaseException | None, answer: object) -> None:
        """The call has ended."""
        try:
            self._tell(_error_type(error, answer))
        except Exception:
            logger.exception("the end of a call could not be told to telemetry")
        finally:
            if self._token is not None:
                context.detach(self._token)

    def _tell(self, kind: str | None) -> None:
        instruments = self._instruments
        if instruments is not None:
            instruments.active.leave(self, self._attributes)
            attributes = self._attributes if kind is None else {**self._attributes, ERROR: kind}
            instruments.duration.record(self._call.elapsed, attributes)
        if self._span is not None:
            _end_span(self._span, kind)


class SubscriptionWatch:
    """One subscription, watched from subscribing to its end."""

    __slots__ = ("_attributes", "_instruments", "_refused", "_span", "context")

    def __init__(self, observer: Telemetry, request: GraphQLRequest) -> None:
        self._instruments = observer.instruments
        self._attributes = {TYPE: "subscription", **observer.described(request, None)}
        self._refused = False
        self._span = observer.start_span(self._attributes, request, SpanKind.CLIENT)
        current = context.get_current()
        self.context = current if self._span is None else trace.set_span_in_context(self._span, current)
        if observer.instruments is not None:
            observer.instruments.subscriptions.add(1, self._attributes)

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
                logger.exception(_FAILED)
                self._instruments = None

    @_harmless
    def gap(self, gap: SubscriptionGap) -> None:
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

    @_harmless
    def dropped(self) -> None:
        """A full queue threw an event away."""
        if self._instruments is not None:
            self._instruments.dropped.add(1, self._attributes)

    def refused(self) -> None:
        """The server ends it with an error."""
        self._refused = True

    def end(self, error: BaseException | None) -> None:
        """The subscription has ended."""
        try:
            if self._span is not None:
                _end_span(self._span, GRAPHQL_ERROR if self._refused else _error_type(error, None))
        except Exception:
            logger.exception("the end of a subscription could not be told to telemetry")
        self._uncount()

    @_harmless
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
        logger.exception(_FAILED)
        return {}
    return carrier


def _is_recording(span: Span) -> bool:
    try:
        return span.is_recording()
    except Exception:
        logger.exception(_FAILED)
        return False


def _end_span(span: Span, kind: str | None) -> None:
    # The type only: texts of errors may quote what a server or a user wrote.
    if kind is not None and span.is_recording():
        span.set_attribute(ERROR, kind)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _error_type(error: BaseException | None, answer: Any) -> str | None:
    """A word for what went wrong, of which there are only so many."""
    if isinstance(error, HTTPStatusError):
        # A server can make up nine hundred of them.
        return str(error.status) if error.status in _STATUSES else "_OTHER"
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if error is not None:
        return type(error).__name__[:NAME_LIMIT]
    return GRAPHQL_ERROR if getattr(answer, "errors", None) else None


def _is_real(provider: object) -> bool:
    """Whether a provider is somebody's SDK, and not one that the API puts in its place."""
    module = type(provider).__module__
    return not module.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
