"""Watches retries and attempts: as structured log lines, and as breadcrumbs for whoever reports an error.

No dependency: ``log`` stands for ``structlog.get_logger().info``, ``breadcrumbs`` for
``sentry_sdk.add_breadcrumb``.
"""

import asyncio
import dataclasses
from collections import deque
from typing import Any

from graphql_prod import HookRecord, HTTPStatusError, ProductionClient, RetryPolicy
from graphql_prod.testing import Answer, ScriptedServer


def log(event: str, **facts: Any) -> None:
    print(event, *(f"{key}={value}" for key, value in facts.items() if value is not None))


class Structured:
    """One line a retry, with the facts that apply."""

    def on_retry(self, record: HookRecord) -> None:
        log("retry", **{**dataclasses.asdict(record), "host": None, "elapsed": None, "wait": None})


class Breadcrumbs:
    """What happened before an error, the last 100 attempts."""

    def __init__(self) -> None:
        self.crumbs: deque[dict[str, Any]] = deque(maxlen=100)

    def on_attempt(self, record: HookRecord) -> None:
        level = "info" if record.reason is None else "warning"
        data = {"status": record.status, "reason": record.reason, "attempt": record.attempt}
        self.crumbs.append(
            {"category": "graphql", "message": record.operation_name, "level": level, "data": data}
        )


async def main() -> None:
    breadcrumbs = Breadcrumbs()
    retry = RetryPolicy(attempts=3, wait_initial=0.01)
    async with (
        ScriptedServer() as server,
        ProductionClient(
            server.url, validate=False, retry=retry, hooks=[Structured(), breadcrumbs]
        ) as client,
    ):
        server.script(Answer.page(502))
        await client.query("query Greeting { hello }")
        server.always(Answer.page(503))
        try:
            await client.query("query Report { hello }")
        except HTTPStatusError:
            for crumb in breadcrumbs.crumbs:
                print(crumb["level"], crumb["message"], crumb["data"]["status"])


asyncio.run(main())
