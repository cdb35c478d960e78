"""What the tests of spans share."""

from __future__ import annotations

from typing import Any

from telemetry_sdk import (
    METRICS,
    client_of,
    context_of,
    facts_of_span,
    is_child,
    owner_fixture,
    sdk_fixture,
    session_of,
    traceparent,
)

__all__ = [
    "HI",
    "METRICS",
    "client_of",
    "context_of",
    "facts_of_span",
    "is_child",
    "key",
    "owner_fixture",
    "sdk_fixture",
    "session_of",
    "traceparent",
]

HI = "query Hi { hello }"


def key(attributes: dict[str, Any], **more: str) -> frozenset[tuple[str, Any]]:
    """Attributes as the SDK's values are found by; ``error`` is error.type."""
    facts = {"error.type" if name == "error" else name: value for name, value in more.items()}
    return frozenset({**attributes, **facts}.items())
