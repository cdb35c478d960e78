"""The metrics, as the contract names them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from opentelemetry.metrics import Observation

from graphql_prod.runtime import forks
from graphql_prod.telemetry.documents import OTHER, CardinalityLimiter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry import metrics
    from opentelemetry.metrics import CallbackOptions, Meter

CODES = 100
"""Error codes a client, the contract's figure: a server can make up any number."""

_is_code = re.compile(r"[A-Za-z0-9_.-]+").fullmatch

# Those of OpenTelemetry's HTTP client metric, and on to a BATCH call's 300 s.
DURATION_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0),
)


Attributes = dict[str, str | int]
Series = tuple[tuple[str, str | int], ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is asked for when metrics are collected.

    :ivar pool: connections in use, calls that wait for one, and the limit; None for a caller's session.
    :ivar subscriptions_down: subscriptions that have lost their connection.
    """

    pool: Callable[[], tuple[int, int, int]] | None
    subscriptions_down: Callable[[], int]


def _part(pool: Callable[[], tuple[int, int, int]], which: int) -> int:
    return pool()[which]


class UnderWay:
    """A client's calls under way, counted when metrics are collected: a call does not pay for it."""

    def __init__(self) -> None:
        # Another thread may collect: so sets, of which each step is one of the interpreter's, and no sums.
        self._series: dict[Series, set[object]] = {}
        forks.follow(self)

    def begin_anew(self) -> object:
        """No call is under way in a child that was forked."""
        series, self._series = self._series, {each: set() for each in self._series}
        return series

    def register(self, call: object, attributes: Attributes) -> None:
        """A call begins."""
        self._series.setdefault(tuple(attributes.items()), set()).add(call)

    def unregister(self, call: object, attributes: Attributes) -> None:
        """A call has ended; its series stays, at zero."""
        self._series[tuple(attributes.items())].discard(call)

    def count(self) -> Counter[Series]:
        """How many there are, by their attributes."""
        return Counter({series: len(calls) for series, calls in list(self._series.items())})


_Clients = WeakValueDictionary[int, UnderWay]

# An SDK takes the callback of the first instrument of a name and ignores those of others.
_meters: WeakKeyDictionary[Meter, _Clients] = WeakKeyDictionary()


def _under_way(meter: Meter) -> UnderWay:
    """What a client counts its calls with; observed until the client is collected."""
    mine = UnderWay()
    created: _Clients = WeakValueDictionary()
    clients = _meters.setdefault(meter, created)
    clients[id(mine)] = mine
    if clients is created:
        meter.create_observable_up_down_counter(
            "graphql.client.active_requests",
            callbacks=[partial(_observe, clients)],
            unit="{request}",
            description="Calls under way.",
        )
    return mine


def _observe(clients: _Clients, _: CallbackOptions) -> Iterator[Observation]:
    total: Counter[Series] = Counter()
    for client in clients.valuerefs():
        if (under_way := client()) is not None:
            total.update(under_way.count())
    return (Observation(calls, dict(series)) for series, calls in total.items())


class Gauge:
    """A number of a client that is asked for when metrics are collected; from any thread."""

    def __init__(self, read: Callable[[], int], attributes: Attributes) -> None:
        self.read = read
        self.series: Series = tuple(attributes.items())


_Gauges = WeakValueDictionary[int, Gauge]
_gauges: WeakKeyDictionary[Meter, dict[str, _Gauges]] = WeakKeyDictionary()


def _gauge(
    meter: Meter, name: str, unit: str, description: str, read: Callable[[], int], attributes: Attributes
) -> Gauge:
    """What observes a client's number for as long as it is kept."""
    mine = Gauge(read, attributes)
    known = _gauges.setdefault(meter, {})
    if name not in known:
        known[name] = _Gauges()
        meter.create_observable_up_down_counter(
            name, callbacks=[partial(_read_all, known[name])], unit=unit, description=description
        )
    known[name][id(mine)] = mine
    return mine


def _read_all(gauges: _Gauges, _: CallbackOptions) -> Iterator[Observation]:
    total: Counter[Series] = Counter()
    for each in gauges.valuerefs():
        if (gauge := each()) is not None:
            total[gauge.series] += gauge.read()
    return (Observation(number, dict(series)) for series, number in total.items())


class Instruments:
    """One set a client; instruments of the same name share their series in the SDK."""

    def __init__(self, meter: Meter, numbers: Numbers, server: Attributes) -> None:
        self._codes = CardinalityLimiter(CODES)
        observed = [
            (
                "graphql.client.subscriptions.down",
                "{subscription}",
                "Subscriptions that have lost their connection and have no other one yet.",
                numbers.subscriptions_down,
            )
        ]
        if numbers.pool is not None:
            observed += [
                (
                    "graphql.client.pool.in_use",
                    "{connection}",
                    "Connections of the pool that calls hold.",
                    partial(_part, numbers.pool, 0),
                ),
                (
                    "graphql.client.pool.waiting",
                    "{request}",
                    "Calls that wait for a connection of the pool.",
                    partial(_part, numbers.pool, 1),
                ),
            ]
        self._observed = [_gauge(meter, *each, server) for each in observed]
        self.duration: metrics.Histogram = meter.create_histogram(
            "graphql.client.request.duration",
            unit="s",
            description="Calls, from the first attempt to the end, waits included; failed ones too.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self.active: UnderWay = _under_way(meter)
        self.retries: metrics.Counter = meter.create_counter(
            "graphql.client.retries", unit="{retry}", description="Attempts that repeated an earlier one."
        )
        self.retry_delay: metrics.Histogram = meter.create_histogram(
            "graphql.client.retry_delay",
            unit="s",
            description="Waits before repeated attempts.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self.budget_rejections: metrics.Counter = meter.create_counter(
            "graphql.client.retry_budget.rejections",
            unit="{retry}",
            description="Retries that the retry budget refused.",
        )
        self.subscriptions: metrics.UpDownCounter = meter.create_up_down_counter(
            "graphql.client.subscriptions.active",
            unit="{subscription}",
            description="Subscriptions, those that are connecting included.",
        )
        self.events: metrics.Counter = meter.create_counter(
            "graphql.client.subscription.events", unit="{event}", description="Events that came."
        )
        self.reconnects: metrics.Counter = meter.create_counter(
            "graphql.client.subscription.reconnects",
            unit="{reconnect}",
            description="Connections of subscriptions that were lost and are back.",
        )
        self.dropped: metrics.Counter = meter.create_counter(
            "graphql.client.subscription.dropped",
            unit="{event}",
            description="Events that a full queue threw away.",
        )
        self.schema_refreshes: metrics.Counter = meter.create_counter(
            "graphql.client.schema.refreshes", unit="{refresh}", description="Introspections."
        )

        self.throttled: metrics.Counter = meter.create_counter(
            "graphql.client.throttled",
            unit="{call}",
            description="Answers that said slow down, and calls held back before they were sent.",
        )
        self.throttle_delay: metrics.Histogram = meter.create_histogram(
            "graphql.client.throttle.delay",
            unit="s",
            description="How long calls were held back.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self.admission_rejections: metrics.Counter = meter.create_counter(
            "graphql.client.admission.rejections",
            unit="{call}",
            description="Calls and retries that admission control did not send.",
        )

    def code(self, code: str) -> str:
        """A code that a server made up, or ``_OTHER`` for one that is none, or one too many."""
        return self._codes.bounded(code) if _is_code(code) else OTHER
