"""A program's own code watches attempts, retries and gaps, and cannot break what it watches."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from retrying import AT_ONCE
from subscribing import Follower
from subscribing import client_of as subscribing_client
from telemetry_sdk import session_of

from graphql_prod import (
    ClientHooks,
    ConfigurationError,
    HookRecord,
    ProductionClient,
    ProductionConfig,
    RetryBudget,
    RetryPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from subscribing import Backend
    from telemetry_sdk import Owner

HI = "query Hi { hello }"


class Journal(ClientHooks):
    """Keeps what it is told, by the names of the hooks."""

    def __init__(self) -> None:
        self.told: list[tuple[str, HookRecord]] = []

    def on_attempt(self, record: HookRecord) -> None:
        self.told.append(("attempt", record))

    def on_retry(self, record: HookRecord) -> None:
        self.told.append(("retry", record))

    def on_rejected(self, record: HookRecord) -> None:
        self.told.append(("rejected", record))

    def on_gap(self, record: HookRecord) -> None:
        self.told.append(("gap", record))

    def brief(self) -> list[tuple[str, int | None, int | None, str | None]]:
        return [(name, each.attempt, each.status, each.reason) for name, each in self.told]


class Failing:
    """A hook with a mistake in it."""

    def __init__(self) -> None:
        self.asked = 0

    def on_attempt(self, record: HookRecord) -> None:
        self.asked += 1
        raise ZeroDivisionError(record.host)


async def test_attempts_and_retries(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Each attempt when it has ended, each retry when it is decided on, with what is known of it."""
    journal = Journal()
    server.script(Answer.page(503), Answer.reset("before"))
    async with session_of(backend, owner) as session:
        config = ProductionConfig(retry=AT_ONCE)
        async with ProductionClient(
            server.url, session=session, backend=backend, validate=False, config=config, hooks=journal
        ) as client:
            answer = await client.query(HI)
    assert journal.brief() == [
        ("attempt", 1, 503, "503 Service Unavailable"),
        ("retry", 1, 503, "503 Service Unavailable"),
        ("attempt", 2, None, "connection lost"),
        ("retry", 2, None, "connection lost"),
        ("attempt", 3, 200, None),
    ]
    first, last = journal.told[1][1], journal.told[-1][1]
    assert (first.host, first.operation_name, first.operation_type) == (
        f"127.0.0.1:{server.port}",
        "Hi",
        "query",
    )
    assert first.wait == 0.0
    assert last.wait is None
    assert last.elapsed is not None
    assert 0 < last.elapsed <= answer.elapsed
    with pytest.raises(dataclasses.FrozenInstanceError):
        last.host = "other"  # type: ignore[misc]


async def test_a_failure_that_is_final(server: ScriptedServer) -> None:
    """The last attempt is told of, though nothing follows it; one that the budget refuses is a rejection."""
    journal, retry = (
        Journal(),
        RetryPolicy(wait_initial=0, wait_max=0, budget=RetryBudget(ratio=0, reserve=0)),
    )
    server.always(Answer.disconnect())
    async with ProductionClient(server.url, validate=False, retry=retry, hooks=[journal]) as client:
        with pytest.raises(TransportError):
            await client.query(HI)
    assert [name for name, _ in journal.told] == ["attempt", "rejected"]
    assert journal.told[1][1].reason == "retry budget"


async def test_a_gap(counting: ScriptedServer, backend: Backend) -> None:
    """A connection that was lost and is back."""
    journal = Journal()
    async with (
        subscribing_client(counting.url, backend, objects={"hooks": journal}) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came()
        await counting.close_sockets(1012, "restart")
        await follower.went_on()
    ((name, record),) = journal.told
    assert (name, record.status, record.reason, record.operation_type) == (
        "gap",
        1012,
        "restart",
        "subscription",
    )
    assert record.attempt == 1


async def test_a_hook_that_fails(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and neither calls nor the other hooks hear of it."""
    failing, journal = Failing(), Journal()
    async with ProductionClient(server.url, validate=False, hooks=(failing, journal)) as client:
        for _ in range(3):
            assert (await client.query(HI)).data
    assert failing.asked == len(journal.told) == 3
    (record,) = [each for each in caplog.records if "hook" in each.getMessage()]
    assert "Failing.on_attempt" in record.getMessage()


async def test_views_and_probes_are_told(server: ScriptedServer) -> None:
    """Views share the hooks."""
    journal = Journal()
    async with ProductionClient(server.url, validate=False, hooks=journal) as client:
        await client.with_options(timeout=5).query(HI)
    assert [name for name, _ in journal.told] == ["attempt"]


async def test_from_config(server: ScriptedServer) -> None:
    """Hooks are objects beside settings."""
    journal = Journal()
    client = ProductionClient.from_config(
        {"endpoint": server.url}, env_prefix=None, hooks=journal, validate=False
    )
    async with client:
        await client.query(HI)
    assert journal.told


class _Coroutine:
    async def on_retry(self, record: HookRecord) -> None: ...


class _NoFunction:
    on_retry = 3


@pytest.mark.parametrize(
    ("hooks", "says"),
    [
        (object(), "none of the methods"),
        ([Journal(), 3], "none of the methods"),
        (_Coroutine(), "plain function"),
        (_NoFunction(), "must be a function"),
    ],
)
def test_what_is_no_hook(hooks: Any, says: str) -> None:
    """Refused when it is given, with words."""
    with pytest.raises(ConfigurationError, match=says):
        ProductionClient("http://127.0.0.1:9/", hooks=hooks)
