"""Settings of one operation: what its groups name is changed, and the client's holds for the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import tenacity
from aiographql.client import GraphQLClientException

from graphql_prod import (
    BATCH,
    INTERACTIVE,
    STANDARD,
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

NAMED = {
    "attempts": 4,
    "mutations": "never",
    "statuses": [418],
    "error_codes": ["BUSY"],
    "idempotency_header": "X-Key",
    "respect_retry_after": False,
}
BUSY = Answer.graphql(errors=[{"message": "busy", "extensions": {"code": "BUSY"}}])


async def attempts(client: ProductionClient, server: ScriptedServer, document: str) -> int:
    """How many requests a call takes, however it ends."""
    before = len(server.requests)
    with contextlib.suppress(GraphQLClientException):
        await client.query(document)
    return len(server.requests) - before


def client_of(server: ScriptedServer, backend: Any, **settings: Any) -> ProductionClient:
    return ProductionClient.from_config(
        {"endpoint": server.url, "backend": backend, **settings}, env_prefix=None, validate=False
    )


class TestRetry:
    async def test_what_is_not_named_stays(self, server: ScriptedServer, backend: Any) -> None:
        """An operation that names its attempts keeps statuses, codes, and what is said of mutations."""
        async with client_of(
            server, backend, retry=NAMED, operations={"Two": {"retry": {"attempts": 2}}}
        ) as client:
            with no_waiting():
                for answer, two, other in (
                    (Answer.page(418), 2, 4),
                    (Answer.page(503), 1, 1),
                    (BUSY, 2, 4),
                ):
                    server.always(answer)
                    assert await attempts(client, server, "query Two { hello }") == two
                    assert await attempts(client, server, "query Other { hello }") == other
                server.always(Answer.page(418))
                assert await attempts(client, server, "mutation Two { increment }") == 2
        keys = {request.headers["X-Key"] for request in server.requests[-2:]}
        assert len(keys) == 1

    async def test_what_is_named_counts(self, server: ScriptedServer, backend: Any) -> None:
        """What an operation names replaces the client's, down to a set that is empty."""
        operations = {"None": {"retry": {"statuses": []}}, "Own": {"retry": {"statuses": [503]}}}
        async with client_of(server, backend, retry=NAMED, operations=operations) as client:
            with no_waiting():
                server.always(Answer.page(418))
                assert await attempts(client, server, "query None { hello }") == 1
                assert await attempts(client, server, "query Own { hello }") == 1
                server.always(Answer.page(503))
                assert await attempts(client, server, "query Own { hello }") == 4

    async def test_numbers_that_leave_no_room(self, server: ScriptedServer) -> None:
        """The client's number moves; two of the operation's own that contradict are refused."""
        first, last = RetryPolicy(wait_initial=5, wait_max=6), RetryPolicy(wait_max=1)
        assert last.merged_over(first) == RetryPolicy(wait_initial=1, wait_max=1)
        assert RetryPolicy(wait_initial=9).merged_over(first) == RetryPolicy(wait_initial=9, wait_max=9)
        with pytest.raises(ConfigurationError) as caught:
            client_of(server, None, operations={"A": {"retry": {"wait_initial": 9, "wait_max": 1}}})
        assert caught.value.problems[0].key == "operations.A.retry.wait_initial, wait_max"

    async def test_over_the_constructors(self, server: ScriptedServer, backend: Any) -> None:
        """The constructor's policy stands in place of the config's; an operation's comes before it."""
        server.always(Answer.page(418))
        config = ProductionConfig(
            backend=backend, retry={"attempts": 9}, operations={"Two": {"retry": {"attempts": 2}}}
        )
        policy = RetryPolicy(attempts=3, statuses={418})
        async with ProductionClient(
            server.url, None, None, None, None, False, config=config, retry=policy
        ) as c:
            with no_waiting():
                assert await attempts(c, server, "query Two { hello }") == 2
                assert await attempts(c, server, "query Other { hello }") == 3
                view = c.with_options(retry=RetryPolicy(attempts=5, statuses={418}))
                assert await attempts(view, server, "query Two { hello }") == 5


class TestTenacity:
    @pytest.mark.parametrize("by", ["view", "constructor"])
    async def test_keeps_what_the_table_goes_by(self, server: ScriptedServer, backend: Any, by: str) -> None:
        """A tenacity object says when; what is tried again stays the client's."""
        retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
        settings: Any = {"endpoint": server.url, "backend": backend, "retry": NAMED}
        given: Any = {"retry": retrying} if by == "constructor" else {}
        async with ProductionClient.from_config(settings, env_prefix=None, validate=False, **given) as client:
            used = client if by == "constructor" else client.with_options(retry=retrying)
            for answer, expected in ((Answer.page(418), 3), (Answer.page(503), 1), (BUSY, 3)):
                server.always(answer)
                assert await attempts(used, server, "query { hello }") == expected
            await attempts(used, server, "mutation { increment }")
            assert server.requests[-1].headers["X-Key"]

    async def test_mutations_stay_as_careful(self, server: ScriptedServer, backend: Any) -> None:
        """A client that never repeats a mutation does not begin to for a tenacity object's sake."""
        async with ScriptedServer() as gone:
            pass
        config = ProductionConfig(backend=backend, retry=RetryPolicy(mutations="never"))
        retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
        async with ProductionClient(gone.url, validate=False, config=config) as client:
            with pytest.raises(GraphQLClientException) as caught:
                await client.with_options(retry=retrying).query("mutation { increment }")
        assert getattr(caught.value, "attempts", None) == 1

    async def test_as_the_clients(self, server: ScriptedServer, backend: Any) -> None:
        """Under an operation's group a client's tenacity object keeps its predicate and what is not named."""
        agrees = [True]
        retrying = tenacity.AsyncRetrying(
            retry=lambda _: agrees[0], stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none()
        )
        operations: Any = {
            "Five": {"retry": {"attempts": 5}},
            "Own": {"retry": {"statuses": [418]}},
            "Slow": {"retry": {"wait_initial": 0, "wait_max": 0}},
        }
        config = ProductionConfig(backend=backend, retry=retrying, operations=operations)
        async with ProductionClient(server.url, validate=False, config=config) as client:
            server.always(Answer.page(503))
            assert await attempts(client, server, "query Five { hello }") == 5
            assert await attempts(client, server, "query Slow { hello }") == 3
            assert await attempts(client, server, "query Own { hello }") == 1
            server.always(Answer.page(418))
            assert await attempts(client, server, "query Own { hello }") == 3
            agrees[0] = False
            server.always(Answer.page(503))
            for name in ("Five", "Slow"):
                assert await attempts(client, server, f"query {name} {{ hello }}") == 1


class TestTimeout:
    @pytest.mark.parametrize(
        ("client", "operation", "expected"),
        [
            (
                {"total": 5, "connect": 0.5, "read": 2},
                {"total": 60},
                {"total": 60, "connect": 0.5, "read": 2},
            ),
            ({"connect": 0.5}, {"total": 60}, {"total": 60, "connect": 0.5, "read": None, "write": 10}),
            ({}, {"total": 60}, {"total": 60, "connect": 5, "read": None}),
            ({"total": 60}, {"connect": 1}, {"total": 60, "connect": 1, "read": None}),
            ({"attempt": 3}, {"read": 1}, {"total": 30, "attempt": 3, "read": 1, "connect": 3}),
            # What is left no room moves as far as it must, and no further.
            ({"total": 5, "attempt": 4, "read": 3}, {"total": 2}, {"total": 2, "attempt": 2, "read": 2}),
            ({"total": 5}, {"attempt": 20}, {"total": 20, "attempt": 20, "read": None}),
            ({"total": 5, "attempt": 4}, {"read": 7}, {"total": 7, "attempt": 7, "read": 7}),
            ({"total": 5, "read": 4}, {"total": None, "connect": None}, {"total": None, "read": 4}),
            (INTERACTIVE, {"total": 60}, {"total": 60, "attempt": 2, "connect": 1, "read": 2}),
            ({"write": 1, "pool": 1}, BATCH, {"total": 300, "write": 10, "pool": 5}),
            ({"total": 3, "attempt": 2}, STANDARD, {"total": 30, "attempt": None, "read": 10}),
        ],
    )
    def test_merged(self, client: Any, operation: Any, expected: dict[str, float | None]) -> None:
        """An operation's limits over its client's; a preset replaces them all."""
        base, part = ProductionConfig(timeout=client).timeout, ProductionConfig(timeout=operation).timeout
        merged = part.merged_over(base)
        assert {name: getattr(merged, name) for name in expected} == expected

    async def test_the_clients_read_limit_stays(self, server: ScriptedServer, backend: Any) -> None:
        """An operation that may take longer may not be silent for longer, if the client named that."""
        server.always(Answer.hang())
        operations = {"Report": {"timeout": {"total": 9}}, "Short": {"timeout": {"total": 0.2}}}
        retry = {"attempts": 1}
        for timeout, document, phase in (
            ({"read": 0.2}, "query Report { hello }", "read"),
            ({"connect": 1}, "query Short { hello }", "total"),
        ):
            async with client_of(
                server, backend, timeout=timeout, retry=retry, operations=operations
            ) as client:
                with pytest.raises(RequestTimeoutError) as caught:
                    await client.query(document)
                assert caught.value.phase == phase

    def test_contradiction(self) -> None:
        """Two limits of one operation that contradict each other are refused, with both names."""
        operations: Any = {"A": {"timeout": {"total": 1, "attempt": 2}}}
        with pytest.raises(ConfigurationError) as caught:
            ProductionConfig(timeout="batch", operations=operations)
        assert caught.value.problems[0].key == "operations.A.timeout.attempt, total"


class TestTotalAlone:
    def test_no_limit_for_silence(self) -> None:
        """Where a total is named and ``read`` is not, in whatever form, ``read`` has no limit."""
        for policy in (
            TimeoutPolicy(total=60),
            TimeoutPolicy(total=5, attempt=2),
            ProductionConfig(timeout={"total": 60}).timeout,
            ProductionClient("http://h/", timeout=60).config.timeout,
        ):
            assert policy.read is None
        assert TimeoutPolicy(total=60, read=3).read == 3
        assert TimeoutPolicy(total=5, read=None).read is None
        assert [preset.read for preset in (INTERACTIVE, STANDARD, BATCH)] == [2, 10, 60]
        assert TimeoutPolicy(attempt=60).read == 10

    def test_no_total(self) -> None:
        """``total=None`` does not say how long a call may take: something must end a silent one."""
        assert TimeoutPolicy(total=None).read == 10

    async def test_of_a_view(self, server: ScriptedServer, backend: Any) -> None:
        """A number for a view is a total: it ends the call, and not the silence before it."""
        server.always(Answer.hang())
        async with client_of(server, backend, retry={"attempts": 1}) as client:
            with pytest.raises(RequestTimeoutError) as caught:
                await client.with_options(timeout=0.2).query("{ hello }")
            assert caught.value.phase == "total"
            narrow = client.with_options(timeout=TimeoutPolicy(read=0.1)).with_options(timeout=9)
            with pytest.raises(RequestTimeoutError) as caught:
                await narrow.query("{ hello }")
            assert caught.value.phase == "read"


async def test_operations_of_other_names(server: ScriptedServer, backend: Any) -> None:
    """An operation's groups are for it alone."""
    server.always(Answer.page(503))
    operations = {"Once": {"retry": {"attempts": 1}}}
    async with client_of(server, backend, operations=operations) as client:
        with no_waiting(), pytest.raises(HTTPStatusError) as caught:
            await client.query("query Other { hello }")
        assert caught.value.attempts == 4
