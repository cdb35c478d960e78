"""The metrics, as the contract names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

# Those of OpenTelemetry's HTTP client metric, and on to a BATCH call's 300 s.
DURATION_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0),
)


class Instruments:
    """One set a client; instruments of the same name share their series in the SDK."""

    def __init__(self, meter: Meter) -> None:
        self.duration = meter.create_histogram(
            "graphql.client.operation.duration",
            unit="s",
            description="Calls, from the first attempt to the end, waits included; failed ones too.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self.active = meter.create_up_down_counter(
            "graphql.client.active_requests", unit="{request}", description="Calls under way."
        )
        self.retries = meter.create_counter(
            "graphql.client.retries", unit="{retry}", description="Attempts that repeated an earlier one."
        )
        self.retry_delay = meter.create_histogram(
            "graphql.client.retry_delay",
            unit="s",
            description="Waits before repeated attempts.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self.budget_rejections = meter.create_counter(
            "graphql.client.retry_budget.rejections",
            unit="{retry}",
            description="Retries that the retry budget refused.",
        )
        self.subscriptions = meter.create_up_down_counter(
            "graphql.client.subscriptions.active",
            unit="{subscription}",
            description="Subscriptions, those that are connecting included.",
        )
        self.events = meter.create_counter(
            "graphql.client.subscription.events", unit="{event}", description="Events that came."
        )
        self.reconnects = meter.create_counter(
            "graphql.client.subscription.reconnects",
            unit="{reconnect}",
            description="Connections of subscriptions that were lost and are back.",
        )
        self.dropped = meter.create_counter(
            "graphql.client.subscription.dropped",
            unit="{event}",
            description="Events that a full queue threw away.",
        )
        self.schema_refreshes = meter.create_counter(
            "graphql.client.schema.refreshes", unit="{refresh}", description="Introspections."
        )
