"""What the tests of shutdowns share: the situations that one finds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from subscribing import until

from graphql_prod import (
    RetryPolicy,
    ShutdownReport,
    TimeoutPolicy,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

HELLO = {"hello": "Hello, world!"}
PHASES = ["before", "subscriptions", "requests", "close", "after"]
NOTHING = {
    "requests_completed": 0,
    "requests_cancelled": 0,
    "subscriptions_drained": 0,
    "subscriptions_cancelled": 0,
}
PATIENT: Mapping[str, Any] = {
    "retry": RetryPolicy(wait_initial=20, wait_max=20, jitter="none"),
    "timeout": TimeoutPolicy(total=None),
}


def counts_of(report: ShutdownReport) -> dict[str, int]:
    """What has become of everything."""
    return {name: getattr(report, name) for name in NOTHING}


async def outcome_of(task: asyncio.Task[Any]) -> object:
    """What a caller got: data, or the type of the exception."""
    await until(task.done)
    if task.cancelled():
        return asyncio.CancelledError
    error = task.exception()
    return getattr(task.result(), "data", None) if error is None else type(error)
