"""A flood of equal warnings is one record a second, and says how many it stands for."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

from logged import facts_of
from subscribing import until

from graphql_prod import CallError, ProductionClient, RetryPolicy
from graphql_prod.runtime.logs import FloodGate, facts
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    import pytest

HI = "query Hi { hello }"


async def _fails(client: ProductionClient) -> None:
    try:
        await client.query(HI)
    except CallError:
        return
    raise AssertionError("it cannot succeed")


async def test_an_upstream_that_is_down(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """300 calls that fail at once leave a handful of records; the numbers in them come to all of them."""
    server.always(Answer.page(503))
    retry = RetryPolicy(attempts=2, wait_initial=0, wait_max=0, budget=None)
    async with ProductionClient(server.url, validate=False, retry=retry) as client:
        await asyncio.gather(*(_fails(client) for _ in range(300)))

        def counted() -> int:
            return sum(1 + facts_of(record).get("repeated", 0) for record in caplog.records)

        await until(lambda: counted() >= 300, counted)
        assert counted() == 300
    assert len(caplog.records) < 30
    assert re.search(r"\(\d+ more like it in the last second\)$", caplog.records[-1].getMessage())


async def test_a_call_that_is_alone(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """All its retries are told of, with the name of its operation."""
    server.always(Answer.page(503))
    retry = RetryPolicy(attempts=4, wait_initial=0, wait_max=0)
    async with ProductionClient(server.url, validate=False, retry=retry) as client:
        await _fails(client)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(": ")[2][:17] for text in texts] == [
        f"attempt {n} of Hi e"[:17] for n in (1, 2, 3)
    ]


def test_kinds_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """Any number of kinds of warnings is remembered in bounded memory, and without an event loop."""
    caplog.set_level(logging.WARNING, "graphql_prod")
    gate = FloodGate()
    for kind in range(3000):
        gate.warn(kind, 0, "warning %d", kind, extra=facts(host="here"))
    gate.warn(0, 1, "warning %d", 0, extra=facts(host="here"))  # forgotten by now
    gate.warn(2999, 1, "warning %d", 2999, extra=facts(host="here"))
    assert len(caplog.records) == 3001
    assert len(gate._seen) <= 1000


async def test_facts_are_under_one_key(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """A record of ours adds one attribute to those of logging."""
    caplog.set_level(logging.DEBUG, "graphql_prod")
    server.script(Answer.page(503))
    async with ProductionClient(server.url, retry=RetryPolicy(wait_initial=0)) as client:
        await client.query(HI)
    known = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    records = [record for record in caplog.records if record.name == "graphql_prod"]
    assert len(records) >= 3
    assert {key for record in records for key in vars(record).keys() - known} == {"graphql_prod"}
