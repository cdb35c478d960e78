"""``mode="retry"``: what the server refused is sent again when it allows it, mutations too."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
from logged import facts_of
from subscribing import InstantWaits, until

from graphql_prod import (
    ClientClosedError,
    GraphQLResponse,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    Throttle,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from telemetry_sdk import Sdk

    Make = Callable[..., Awaitable[ProductionClient]]

QUERY, MUTATION = "query Read { counter }", "mutation Add { increment }"
CODED = {"errors": [{"message": "slow down", "type": "RATE_LIMITED"}]}


def refusals() -> dict[str, Answer]:
    """Refusals of each kind, none of which names a time."""
    throttled = {"errors": [{"message": "x", "extensions": {"code": "THROTTLED"}}]}
    return {
        "429 page": Answer(status=429, body="slow down"),
        "429 answer": Answer(status=429, body=throttled, media_type="application/json"),
        "own media type": Answer.graphql(429, errors=[{"message": "x", "extensions": {"code": "THROTTLED"}}]),
        "200 type": Answer(body=CODED, media_type="application/json"),
        "200 code": Answer(body=throttled, media_type="application/json"),
        "400 code": Answer(status=400, body=throttled, media_type="application/json"),
        "texts": Answer(body={"errors": ["too many"], "status_code": 429}, media_type="application/json"),
        "text only": Answer(
            body={"errors": [{"message": "exceeded a secondary rate limit"}]}, media_type="application/json"
        ),
        "403": Answer(status=403, body="no", headers={"x-ratelimit-remaining": "0"}),
    }


@pytest.mark.parametrize("document", [QUERY, MUTATION])
@pytest.mark.parametrize("kind", refusals())
async def test_refused_calls_come_through(
    throttled: Make, server: ScriptedServer, kind: str, document: str
) -> None:
    """Each shape of a refusal, queries and mutations alike, more often than there are attempts; run once."""
    client = await throttled(server.url, retry=RetryPolicy(attempts=2), timeout={"total": 1e6})
    server.script(*[refusals()[kind]] * 5)
    with clock.using(InstantWaits()) as waits:
        answer = await client.query(document)
    assert isinstance(waits, InstantWaits)
    assert answer.data
    assert answer.attempts == 6
    assert sum(server.executions.values()) == 1
    base = 60.0 if kind == "text only" else None
    for n, wait in enumerate(waits.waits):
        least = base or min(60.0, 2.0**n)
        assert least <= wait <= least + min(0.1 * least, 5)
    stats = client.stats()
    assert stats.throttle is not None
    assert (stats.throttle.refused, stats.retries) == (5, 0)


async def test_never_earlier_than_allowed(throttled: Make, server: ScriptedServer) -> None:
    """In real time: the server names a second, and it is over when the call comes again."""
    client = await throttled(server.url)
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}
    server.script(Answer(body=CODED, media_type="application/json", headers=headers))
    began = time.monotonic()
    await client.query(MUTATION)
    assert time.monotonic() - began >= 1.0
    first, second = server.requests
    assert second.at - first.at >= 1.0


async def test_a_mutation_that_may_have_run(throttled: Make, server: ScriptedServer) -> None:
    """``"data": null`` or a path says that something ran: the mutation is not sent again, and says so."""
    client = await throttled(server.url)
    gateway = {"data": None, "errors": [{"message": "x", "extensions": {"code": "RATE_LIMITED"}}]}
    path = {"errors": [{"message": "x", "path": ["a"], "extensions": {"code": "RATE_LIMITED"}}]}
    for body in (gateway, path):
        server.script(Answer(body=body, media_type="application/json"))
        assert (await client.query(MUTATION)).errors
    server.script(Answer(status=429, body=gateway, media_type="application/json"))
    with pytest.raises(HTTPStatusError) as caught:
        await client.query(MUTATION)
    assert caught.value.may_have_executed
    assert len(server.requests) == 3


async def test_what_comes_out(throttled: Make, server: ScriptedServer) -> None:
    """What the stock would give, with the time: an answer is returned, a page or texts are raised."""
    client = await throttled(server.url, {"preset": "monday", "max_wait": 5})
    server.always(Answer(body=CODED, media_type="application/json", headers={"Retry-After": "50"}))
    answer = await client.query(MUTATION)
    assert isinstance(answer, GraphQLResponse)
    assert (answer.json, answer.retry_after, answer.attempts) == (CODED, 50.0, 1)

    server.always(
        Answer(status=429, body="no", headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "70"})
    )
    with pytest.raises(HTTPStatusError) as status:
        await client.query(MUTATION)
    assert (status.value.retry_after, status.value.may_have_executed) == (70.0, False)
    assert "was not executed" in str(status.value)
    assert "throttling.max_wait (5 s)" in str(status.value)

    body = {"errors": ["too many"], "status_code": 429, "extensions": {"retry_in_seconds": 90}}
    server.always(Answer(body=body, media_type="application/json"))
    with pytest.raises(InvalidResponseError) as invalid:
        await client.query(MUTATION)
    assert (invalid.value.retry_after, invalid.value.may_have_executed) == (90.0, False)
    assert len(server.requests) == 3


async def test_what_is_left_of_the_total(throttled: Make, server: ScriptedServer) -> None:
    """A wait that does not fit is not begun; the error names the total."""
    client = await throttled(server.url, timeout={"total": 5})
    server.always(Answer(status=429, body="no", headers={"Retry-After": "6"}))
    with pytest.raises(HTTPStatusError, match=r"timeout.total \(5 s\)"):
        await client.query(QUERY)
    assert len(server.requests) == 1


async def test_failures_count_apart(throttled: Make, server: ScriptedServer) -> None:
    """Refusals are no attempts of the retry policy, and failures none of throttling."""
    client = await throttled(server.url, retry=RetryPolicy(attempts=3, wait_initial=0, wait_max=0))
    busy = Answer(status=429, body="no")
    server.script(busy, Answer.page(503), busy, Answer.page(503), busy, Answer.page(503))
    with clock.using(InstantWaits()), pytest.raises(HTTPStatusError) as caught:
        await client.query(QUERY)
    assert (caught.value.status, caught.value.attempts) == (503, 6)
    assert client.stats().retries == 2


async def test_a_status_of_both_tables(throttled: Make, server: ScriptedServer) -> None:
    """Throttling judges before ``retry.statuses``: the budget and the attempts are not touched."""
    retry = RetryPolicy(attempts=1, statuses={429})
    client = await throttled(server.url, retry=retry)
    server.script(*[Answer(status=429, body="no")] * 3)
    with clock.using(InstantWaits()):
        assert (await client.query(MUTATION)).data


async def test_the_key_stays(throttled: Make, server: ScriptedServer) -> None:
    """One idempotency key, the same on each attempt."""
    retry = RetryPolicy(idempotency_header="Idempotency-Key")
    client = await throttled(server.url, retry=retry)
    server.script(*[Answer(status=429, body="no")] * 2)
    with clock.using(InstantWaits()):
        await client.query(MUTATION)
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1
    assert len(server.requests) == 3


async def test_tenacity(server: ScriptedServer) -> None:
    """Its ``retry`` and ``stop`` are asked, ``attempt_number`` counts failures only, its ``wait`` is not."""
    seen: list[int] = []

    def stop(state: tenacity.RetryCallState) -> bool:
        seen.append(state.attempt_number)
        return len(seen) >= 4

    def never(_: tenacity.RetryCallState) -> float:
        raise AssertionError("its wait is not asked")

    retrying = tenacity.AsyncRetrying(stop=stop, wait=never)
    config = ProductionConfig(throttling="github")
    server.always(Answer(status=429, body="no"))
    async with ProductionClient(server.url, validate=False, retry=retrying, config=config) as client:
        with clock.using(InstantWaits()), pytest.raises(HTTPStatusError) as caught:
            await client.query(QUERY)
    assert caught.value.attempts == 4
    assert seen == [1, 1, 1, 1]
    assert "tenacity object" in str(caught.value)


async def test_operations_have_it_too(throttled: Make, server: ScriptedServer) -> None:
    """An operation with settings of its own is held to the same throttling."""
    client = await throttled(server.url, operations={"Add": {"retry": {"attempts": 1}}})
    server.script(Answer(status=429, body="no"))
    with clock.using(InstantWaits()):
        assert (await client.query(MUTATION)).attempts == 2


async def test_off_by_default(server: ScriptedServer) -> None:
    """Without the setting a refusal is what it was: returned, or raised, at once."""
    server.script(Answer(body=CODED, media_type="application/json"), Answer(status=429, body="no"))
    async with ProductionClient(server.url, validate=False) as client:
        assert (await client.query(MUTATION)).errors
        with pytest.raises(HTTPStatusError) as caught:
            await client.query(MUTATION)
        assert caught.value.may_have_executed
        assert client.stats().throttle is None


async def test_closing_ends_the_wait(throttled: Make, server: ScriptedServer) -> None:
    """A call that waits for its next attempt gives out its last refusal when the client closes."""
    client = await throttled(server.url)
    server.always(Answer(body=CODED, media_type="application/json", headers={"Retry-After": "20"}))
    call = asyncio.create_task(client.query(MUTATION))
    await until(lambda: client.stats().throttle and client.stats().throttle.refused)  # type: ignore[union-attr]
    await client.shutdown(5)
    assert (await call).json == CODED
    with pytest.raises(ClientClosedError):
        await client.query(QUERY)


async def test_the_total_ends_it(throttled: Make, server: ScriptedServer) -> None:
    """A cancel at the total is a timeout that knows of the refusal."""
    client = await throttled(server.url, timeout={"total": 1.2})
    server.script(Answer(status=429, body="no", headers={"Retry-After": "1"}))
    server.always(Answer.hang())
    with pytest.raises(RequestTimeoutError) as caught:
        await client.query(QUERY)
    assert caught.value.attempts == 2
    assert isinstance(caught.value.__cause__, HTTPStatusError)


async def test_what_is_told(sdk: Sdk, server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """The log, the span, the metrics and the hooks say who was refused and for how long."""
    told: list[Any] = []

    class Watching:
        def on_throttled(self, record: Any) -> None:
            told.append(record)

    server.script(Answer(status=429, body="no", headers={"Retry-After": "3"}))
    config = ProductionConfig(throttling="github")
    async with ProductionClient(server.url, validate=False, config=config, hooks=Watching()) as client:
        with clock.using(InstantWaits()):
            await client.query(MUTATION)
    (record,) = [each for each in caplog.records if "refused" in each.getMessage()]
    assert "of Add" in record.getMessage()
    assert 3.0 <= facts_of(record)["wait"] <= 3.3
    (call,) = sdk.spans()
    (event,) = [each for each in call.events if each.name == "throttled"]
    assert dict(event.attributes or {})["reason"] == "status 429"
    assert sum(sdk.metric("throttled").values()) == sum(sdk.metric("throttle.delay").values()) == 1
    assert sdk.metric("retries") == {}
    assert [(each.operation_name, each.status, each.reason) for each in told] == [("Add", 429, "status 429")]


async def test_ready_while_it_holds_back(throttled: Make, server: ScriptedServer) -> None:
    """The server has asked for silence: nothing is sent, and the client is ready."""
    client = await throttled(server.url, {"mode": "retry", "max_wait": 1})
    server.script(Answer(status=429, body="no", headers={"Retry-After": "50"}))
    with pytest.raises(HTTPStatusError):
        await client.query(QUERY)
    ready = await client.ready()
    assert (ready.ok, ready.reason, ready.latency) == (True, "throttled", None)
    assert len(server.requests) == 1


async def test_a_probe_that_is_refused(throttled: Make, server: ScriptedServer) -> None:
    """The upstream answers, if only to say that it is busy: that is no reason to take a pod away."""
    client = await throttled(server.url)
    server.always(Answer(status=429, body="no", headers={"Retry-After": "50"}))
    assert (await client.ready()).reason == "throttled"
    assert len(server.requests) == 1


def reader(status: int | None, headers: Any, json: Any) -> Throttle | None:
    """Says what it likes."""
    if isinstance(json, dict) and json.get("busy"):
        return Throttle(wait=float(json["busy"]), reason="busy")
    return None


async def test_a_reader(server: ScriptedServer) -> None:
    """A program's own reader is asked first, and the rest of the table after it."""
    busy = Answer(status=503, body={"busy": 4}, media_type="application/json")
    server.script(busy, Answer(status=429, body="no", headers={"Retry-After": "2"}))
    config = ProductionConfig(throttling={"mode": "retry"})
    async with ProductionClient(server.url, validate=False, config=config, throttle_reader=reader) as client:
        with clock.using(InstantWaits()) as waits:
            assert (await client.query(MUTATION)).attempts == 3
    assert isinstance(waits, InstantWaits)
    assert [int(wait) for wait in waits.waits] == [4, 2]


@pytest.mark.parametrize("result", [None, "yes", 3])
async def test_a_reader_that_fails(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture, result: object
) -> None:
    """It is logged once, and ignored for that answer; ours judges it then."""

    def failing(*_: object) -> Any:
        if result is None:
            raise ZeroDivisionError
        return result

    server.script(*[Answer(status=429, body="no")] * 2)
    config = ProductionConfig(throttling={"mode": "retry"})
    async with ProductionClient(server.url, validate=False, config=config, throttle_reader=failing) as client:
        with clock.using(InstantWaits()):
            assert (await client.query(MUTATION)).attempts == 3
    assert len([each for each in caplog.records if "throttle_reader" in each.getMessage()]) == 1
