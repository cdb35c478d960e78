"""Retry-After, waits that do not fit, and the record of each retry."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from logged import facts_of
from retrying import (
    AS_QUERY,
    QUERY,
    SECRETS,
    Connect,
    _graphql,
    assert_told,
    failure_of,
    forget,
    host_of,
    waits,
)

from graphql_prod import (
    HTTPStatusError,
    ProductionClient,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    import pytest


RETRY_AFTER_SEVEN = (
    {"Retry-After": "7"},
    {"Retry-After": " 7 "},
    {"retry-after": "7"},
    {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:07 GMT"},
)


async def test_retry_after_replaces_a_shorter_wait(
    connect: Connect, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Both forms, on a page and on a GraphQL answer; a date is held against the answer's own Date."""
    for headers in RETRY_AFTER_SEVEN:
        for answer in (Answer.page(503, headers=headers), _graphql(503, headers)):
            caplog.clear()
            server.script(answer)
            client = await connect(server.url)  # equal warnings of one client are one a second
            with no_waiting():
                response = await client.query(QUERY)
            assert response.data == {"counter": 0}
            assert waits(caplog) == [7.0], headers


async def test_retry_after_never_shortens_a_wait(
    connect: Connect, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Shorter, in the past, or unreadable: the computed wait stays."""
    policy = RetryPolicy(wait_initial=3, wait_max=3, jitter="none")
    for value in ("1", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "", "1.5", "²", "1, 2", "8, soon"):
        caplog.clear()
        server.script(Answer.page(503, headers={"Retry-After": value}))
        with no_waiting():
            await (await connect(server.url, retry=policy)).query(QUERY)
        assert waits(caplog) == [3.0], value


async def test_retry_after_may_be_ignored(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """respect_retry_after=False leaves the computed wait."""
    server.script(Answer.page(503, headers={"Retry-After": "3600"}))
    await AS_QUERY.view(simple, respect_retry_after=False).query(QUERY)
    assert waits(caplog) == [0.0]


async def test_a_wait_that_does_not_fit_is_not_begun(owner: ProductionClient, server: ScriptedServer) -> None:
    """What is left of the total is too short for it: the failure is raised at once."""
    for value in ("3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"):
        forget(server)
        server.always(Answer.page(503, headers={"Retry-After": value}))
        error = await failure_of(owner)
        assert error.status == 503
        assert error.retry_after >= 3600
        assert error.elapsed < 5
        assert_told(error, host_of(server), 1, may_have_executed=False)
    endless = owner.with_options(timeout=TimeoutPolicy(total=None))
    server.always(Answer.page(503, headers={"Retry-After": "9" * 400}))
    assert (await failure_of(endless)).attempts == 1


async def test_an_answer_whose_wait_does_not_fit_is_returned_at_once(
    simple: ProductionClient, server: ScriptedServer
) -> None:
    """A GraphQL answer is returned, also when there is no time for another."""
    server.always(Answer.graphql(503, errors=["no"], headers={"Retry-After": "3600"}))
    assert [error.message for error in (await simple.query(QUERY)).errors] == ["no"]
    assert len(server.requests) == 1


async def test_a_computed_wait_that_does_not_fit_is_not_begun(
    connect: Connect, server: ScriptedServer
) -> None:
    """The total bounds our own waits too."""
    policy = RetryPolicy(wait_initial=60, wait_max=60, jitter="none")
    client = await connect(server.url, retry=policy, timeout=TimeoutPolicy(total=2))
    server.always(Answer.page(503))
    error = await failure_of(client)
    assert error.elapsed < 1
    assert_told(error, host_of(server), 1, may_have_executed=False)


async def test_a_hostile_retry_after_breaks_nothing(client: ProductionClient, server: ScriptedServer) -> None:
    """Whatever a header says, what comes out is the server's failure."""
    for value in (
        "9" * 5000,
        "Wed, 21 Oct 99999 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999999999",
    ):
        server.always(Answer.page(503, headers={"Retry-After": value}))
        error = await failure_of(AS_QUERY.view(client))
        assert type(error) is HTTPStatusError, value
        assert error.status == 503


# --- the log --------------------------------------------------------------------------------------


async def test_each_retry_leaves_one_record_with_the_facts(
    owner: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Four attempts, three records on "graphql_prod", each with the facts in its extra, and no secret."""
    caplog.set_level(logging.DEBUG, "graphql_prod")
    server.script(Answer.page(502), Answer.reset("before"), Answer.login_page(), Answer.page(404))
    await failure_of(owner)
    records = [
        {**facts_of(record), "levelname": record.levelname}
        for record in caplog.records
        if record.name == "graphql_prod"
    ]
    shared: dict[str, Any] = {
        "host": host_of(server),
        "operation_name": "Read",
        "wait": 0.0,
        "levelname": "WARNING",
    }
    facts: list[dict[str, Any]] = [
        {"attempt": 1, "status": 502, "reach": "answered", "reason": "502 Bad Gateway"},
        {"attempt": 2, "status": None, "reach": "ambiguous", "reason": "connection lost"},
        {"attempt": 3, "status": 200, "reach": "invalid", "reason": "no GraphQL answer"},
    ]
    wanted = [shared | each for each in facts]
    assert [{key: record[key] for key in shared | facts[0]} for record in records] == wanted
    for record in caplog.records:
        assert not any(secret in f"{record.getMessage()} {record.__dict__}" for secret in SECRETS)


async def test_a_call_that_succeeds_leaves_no_record(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is for retries."""
    caplog.set_level(logging.DEBUG, "graphql_prod")
    await simple.query(QUERY)
    assert not [record for record in caplog.records if record.name == "graphql_prod"]


async def test_a_record_names_the_operation(
    simple: ProductionClient, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The operation's name is a fact, the document is not."""
    server.script(Answer.page(502))
    await simple.query('query Read { echo(value: "s3cret-literal") }', operation="Read")
    assert [facts_of(record)["operation_name"] for record in caplog.records] == ["Read"]
    assert "s3cret" not in f"{caplog.text} {[record.__dict__ for record in caplog.records]}"
