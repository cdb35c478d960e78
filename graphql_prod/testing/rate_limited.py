"""A GraphQL server that says "slow down" as public APIs do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from graphql_prod import clock

from .answers import Answer
from .documents import name_of
from .server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from .exchange import ReceivedRequest
    from .limits import ConcurrencyLimit, FixedWindow, PointsBucket, SecondaryLimit

    AnyLimit = PointsBucket | FixedWindow | ConcurrencyLimit | SecondaryLimit


class RateLimitedServer(ScriptedServer):
    """A :class:`ScriptedServer` that lets in only so many calls, and says so as the API does that it is like.

        async with RateLimitedServer(PointsBucket(1000, 50), costs={"Orders": 40}) as server:
            ...  # a client calls server.url
            assert server.refused == 0

    A call has to pass all limits. Those that pass are answered as a ScriptedServer answers them.

    :param limits: one or several of :class:`PointsBucket`, :class:`FixedWindow`, :class:`ConcurrencyLimit`
        and :class:`SecondaryLimit`.
    :param costs: points of operations by their names; of others, 1.
    :ivar let_in: when calls were let in, in seconds on the clock in use.
    :ivar refusals: when calls were refused.
    :ivar spent: points of the calls that were let in.
    """

    def __init__(self, *limits: AnyLimit, costs: Mapping[str, float] | None = None, **options: Any) -> None:
        super().__init__(**options)
        if not limits:
            raise ValueError("a RateLimitedServer needs at least one limit")
        self.limits = limits
        self.costs: dict[str, float] = dict(costs or {})
        self.let_in: list[float] = []
        self.refusals: list[float] = []
        self.spent: float = 0.0

    @property
    def refused(self) -> int:
        """How many calls were refused."""
        return len(self.refusals)

    async def _exchange(self, request: web.BaseRequest) -> web.StreamResponse:
        passed: list[AnyLimit] = []
        request["passed"] = passed
        try:
            return await super()._exchange(request)
        finally:
            for limit in passed:
                limit.left()

    def _chosen(self, request: web.BaseRequest, received: ReceivedRequest) -> Answer | None:
        cost = self.costs.get(name_of(received.query, received.operation_name) or "", 1.0)
        headers: dict[str, str] = {}
        extensions: dict[str, Any] = {}
        for limit in self.limits:
            admitted, refusal, told, added = limit.admit(cost)
            if not admitted:
                self.refusals.append(clock.monotonic())
                return refusal
            request["passed"].append(limit)
            headers |= told
            extensions |= added
        self.let_in.append(clock.monotonic())
        self.spent += cost
        answer = super()._chosen(request, received) or Answer()
        return dataclasses.replace(
            answer, headers={**headers, **answer.headers}, extensions={**extensions, **answer.extensions}
        )
