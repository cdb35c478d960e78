"""The settings of telemetry."""

from __future__ import annotations

from typing import Literal

from graphql_prod.settings.base import Policy

Document = Literal["off", "sanitized", "full"]


class TelemetryPolicy(Policy):
    """What OpenTelemetry receives, once the program has set up its SDK; without one nothing is.

    :param traces: one span a call and one a subscription.
    :param metrics: durations, retries, the budget, subscriptions.
    :param http_spans: below the span of a call one HTTP span an attempt, on our own sessions.
    :param document: ``"sanitized"`` puts the document into the span with every literal replaced, ``"full"``
        as it is, secrets in its literals included.
    :param operation_name_in_span: True names spans ``query GetUser`` and not ``query``; for programs whose
        operations are few.
    :param probes: True makes spans and metrics of the queries of ``ready()`` too. By default probes make no
        trace and count in no metric: they would be most of what a quiet service tells.
    """

    traces: bool = True
    metrics: bool = True
    http_spans: bool = True
    document: Document = "off"
    operation_name_in_span: bool = False
    probes: bool = False
