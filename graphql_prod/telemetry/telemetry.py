"""Whether anybody listens, and what is reported to them of calls and subscriptions."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import metrics, trace
from opentelemetry.trace import SpanKind

from graphql_prod import clock
from graphql_prod._version import __version__
from graphql_prod.telemetry.documents import CardinalityLimiter, hash_of, operation_of, sanitized
from graphql_prod.telemetry.error_types import (
    ADDRESS,
    DOCUMENT,
    ERROR,
    HASH,
    NAME,
    PORT,
    TYPE,
    error_type,
    metric_word,
)
from graphql_prod.telemetry.instruments import Attributes, Instruments, Numbers
from graphql_prod.telemetry.spans import OperationSpan, SubscriptionSpan, harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiographql.client import GraphQLRequest
    from opentelemetry.trace import Span, Tracer

    from graphql_prod.telemetry.policy import TelemetryPolicy
    from graphql_prod.telemetry.spans import WatchedCall

logger: logging.Logger = logging.getLogger("graphql_prod")
SCOPE = "graphql_prod"

# Seconds between two looks for an SDK, until there is one: a look costs some microseconds, a call about 200.
LOOK_INTERVAL = 1.0


class TracedSessions(Protocol):
    """The sessions of a client, as far as telemetry has to know them."""

    given: Any
    """The caller's; None where they are ours."""

    def observe(self, trace_config: Any) -> None:
        """Make one HTTP span an attempt of a traced call from here on."""


class Telemetry:
    """What a client and its views report to OpenTelemetry. Silent, and next to free, until there is an SDK.

    :ivar tracer: None while nobody listens to spans.
    :ivar instruments: None while nobody listens to metrics.
    :ivar silent_until: before that, on the clock in use, there is nobody to ask about a call.
    """

    def __init__(
        self,
        policy: TelemetryPolicy,
        sessions: TracedSessions,
        server: tuple[str, int],
        numbers: Numbers,
        *,
        owned: bool,
    ) -> None:
        self.policy = policy
        self.server: Attributes = {ADDRESS: server[0], PORT: server[1]}
        self.tracer: Tracer | None = None
        self.instruments: Instruments | None = None
        self._sessions = sessions
        self._owned = owned
        self._numbers = numbers
        self._names = CardinalityLimiter()
        self._look_at = float("-inf") if policy.traces or policy.metrics else float("inf")
        self.silent_until: float = self._look_at
        self._enabled: Callable[[], bool] | None = None
        """Whether whoever calls has not switched instrumentation off; None while nobody listens."""
        if policy.traces or policy.metrics:
            self._look(clock.monotonic())  # the contrib takes its time to import: better now than in a call

    def call(
        self,
        call: WatchedCall,
        request: GraphQLRequest | None,
        operation: str | None,
        _: object,
    ) -> OperationSpan | None:
        """Begin to watch a call; None while nobody listens."""
        if call.started >= self._look_at:
            self._look(call.started)
        if self._enabled is None or not self._enabled():
            return None
        try:
            attributes = self.described(request, operation)
            span = self.start_span(attributes, request)
            return OperationSpan(call, self.instruments, attributes, span)
        except Exception:  # noqa: BLE001 -- a span processor of the program's may raise anything
            self._give_up()
            return None

    def subscription(self, request: GraphQLRequest) -> SubscriptionSpan | None:
        """Begin to watch a subscription; None while nobody listens."""
        now = clock.monotonic()
        if now >= self._look_at:
            self._look(now)
        if self._enabled is None or not self._enabled():
            return None
        try:
            attributes = {TYPE: "subscription", **self.described(request, None)}
            span = self.start_span(attributes, request)
            return SubscriptionSpan(self.instruments, attributes, span)
        except Exception:  # noqa: BLE001 -- a span processor of the program's may raise anything
            self._give_up()
            return None

    @harmless
    def introspected(self, error: BaseException | None) -> None:
        """The schema was asked for."""
        if self.instruments is not None and self._enabled is not None and self._enabled():
            kind = error_type(error, None)
            attributes = self.server
            if kind is not None:
                attributes = {**attributes, ERROR: metric_word(self.instruments, kind)}
            self.instruments.schema_refreshes.add(1, attributes)

    @contextlib.contextmanager
    def of_probes(self) -> Iterator[None]:
        """What is sent inside belongs to a probe: unless probes are watched, nobody makes a span of it."""
        if self.policy.probes or self._enabled is None:
            yield
            return
        from opentelemetry.instrumentation.utils import suppress_http_instrumentation

        with suppress_http_instrumentation():
            yield

    def described(self, request: GraphQLRequest | None, operation: str | None) -> Attributes:
        """Type and name of an operation, for metrics and for spans."""
        attributes = self.server.copy()
        if request is None:
            return attributes
        kind, name = operation_of(request.query, operation or request.operationName)
        if kind is not None:
            attributes[TYPE] = kind
        if name is not None:
            attributes[NAME] = self._names.bounded(name)
        return attributes

    def start_span(self, attributes: Attributes, request: GraphQLRequest | None) -> Span | None:
        """A span of its own; the caller's is its parent."""
        if self.tracer is None:
            return None
        name = str(attributes.get(TYPE, "GraphQL Operation"))
        if self.policy.operation_name_in_span and NAME in attributes:
            name = f"{name} {attributes[NAME]}"
        if request is not None and request.query:
            attributes = {**attributes, HASH: hash_of(request.query)}
        span = self.tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
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
        self.silent_until = self._look_at if self._enabled is None else float("-inf")

    def _give_up(self) -> None:
        """Be silent from now on: what cannot be told shall not break what it would be told of."""
        self._look_at, self._enabled = float("inf"), None
        self.silent_until = float("inf")
        logger.exception("telemetry is off: the program's SDK failed; calls are not affected")

    def _find(self) -> None:
        before = (self.tracer, self.instruments)
        if self.tracer is None and self.policy.traces and _is_real(trace.get_tracer_provider()):
            tracer = trace.get_tracer(SCOPE, __version__)
            self.tracer = None if isinstance(tracer, trace.NoOpTracer) else tracer
        if self.instruments is None and self.policy.metrics and _is_real(metrics.get_meter_provider()):
            meter = metrics.get_meter(SCOPE, __version__)
            if not isinstance(meter, metrics.NoOpMeter):
                self.instruments = Instruments(meter, self._numbers, self.server)
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

            self._sessions.observe(http_trace_config(self.server))


def _is_real(provider: object) -> bool:
    """Whether a provider is somebody's SDK, and not one that the API puts in its place."""
    module = type(provider).__module__
    return not module.startswith(("opentelemetry.trace", "opentelemetry.metrics"))
