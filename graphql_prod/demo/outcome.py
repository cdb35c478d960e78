"""How a call ended: measured, the same way for both clients."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from aiographql.client import GraphQLResponse

from graphql_prod.demo.events import Events
from graphql_prod.demo.process import Work

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from graphql_prod.testing import ReceivedRequest

Kind = Literal["answer", "GraphQL errors", "silent empty data", "silent end", "work lost", "error"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a call, and what the server recorded of it."""

    result: Any
    error: Exception | None
    seconds: float
    requests: tuple[ReceivedRequest, ...] = ()
    """Those that reached the server, upgrades to a WebSocket among them."""
    executions: int = 0
    """How often the server really ran the mutation."""

    @property
    def kind(self) -> Kind:
        """What the caller is left with."""
        if self.error is not None:
            return "error"
        if isinstance(self.result, Events):
            return "answer" if self.result.ended else "silent end"
        if isinstance(self.result, Work):
            return "answer" if self.result.whole else "work lost"
        if not isinstance(self.result, GraphQLResponse):
            return "answer"
        if self.result.errors:
            return "GraphQL errors"
        return "answer" if self.result.data else "silent empty data"

    @property
    def may_have_executed(self) -> bool | None:
        """What the error says of it; None where it says nothing, as the stock client's never do."""
        return getattr(self.error, "may_have_executed", None)

    def seen_by(self, requests: list[ReceivedRequest], executions: int) -> Outcome:
        """The same with the server's records."""
        return replace(self, requests=tuple(requests), executions=executions)


async def measured(call: Awaitable[Any], patience: float) -> Outcome:
    """Await a call for at most ``patience`` seconds; an error is an outcome, a cancel is not."""
    result, error, began = None, None, time.perf_counter()
    try:
        async with asyncio.timeout(patience) as limit:
            result = await call
    except Exception as caught:  # noqa: BLE001 -- whatever a client raises is what we are here to see
        error = caught
    if limit.expired():
        error = TimeoutError(f"no end after {patience:g} s: given up by the demo")
    return Outcome(result, error, time.perf_counter() - began)
