"""The total, and a caller's session."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from timing_out import INCREMENT, ONCE, ONE_SLOT, Backend, Owner, client_of, held, http_session, timed_out

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer

INTROSPECTION = "IntrospectionQuery"


class TestTotal:
    async def test_a_number_is_a_total(self, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
        """``with_options(timeout=0.15)`` sets the total for that view alone."""
        server.script(Answer.hang())
        async with client_of(server.url, backend, owner) as client:
            assert (await timed_out(client.with_options(timeout=0.15))).phase == "total"
            assert (await client.query("{ hello }")).data == {"hello": "Hello, world!"}

    @pytest.mark.parametrize("value", [0, -1.5, float("nan")])
    def test_a_total_is_positive(self, value: float) -> None:
        """A total that no call could meet is refused where it is given."""
        client = ProductionClient("http://127.0.0.1:1/graphql")
        with pytest.raises(ConfigurationError, match="total"):
            client.with_options(timeout=value)

    async def test_a_shorter_total_takes_a_longer_limit_down_with_it(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A number never contradicts the client's own limits: those that do not fit give way."""
        server.always(Answer.hang())
        limits = TimeoutPolicy(total=20, attempt=10, read=8, connect=5)
        async with client_of(server.url, backend, timeout=limits) as client:
            error = await timed_out(client.with_options(timeout=0.2))
            assert error.phase == "total"

    async def test_the_total_covers_the_introspection(self, server: ScriptedServer, backend: Backend) -> None:
        """A first call that waits for the schema stands under its own total; the mutation was not sent."""
        server.on(INTROSPECTION, Answer.hang())
        async with client_of(server.url, backend, validate=True, timeout=TimeoutPolicy(total=0.2)) as client:
            error = await timed_out(client, INCREMENT)
        assert (error.phase, error.may_have_executed) == ("total", False)
        assert error.elapsed < 10

    async def test_introspection_and_query_share_one_total(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Introspection and query each fit the total, together they do not."""
        server.on(INTROSPECTION, Answer(delay=0.5))
        server.on("Slow", Answer(delay=0.5))
        async with client_of(server.url, backend, validate=True, timeout=TimeoutPolicy(total=0.8)) as client:
            error = await timed_out(client, "query Slow { hello }")
            assert error.phase == "total"
            assert error.elapsed >= 0.75

    async def test_a_mutation_sent_after_its_introspection_may_have_executed(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """What the timeout says is about the mutation, not about the introspection before it."""
        server.on("Add", Answer.hang(execute=True))
        async with client_of(server.url, backend, validate=True, timeout=TimeoutPolicy(total=1)) as client:
            error = await timed_out(client, INCREMENT)
        assert server.executions["increment"] == 1
        assert (error.phase, error.may_have_executed) == ("total", True)
        assert "Nothing was changed" not in str(error)

    async def test_a_views_limits_hold_for_a_call_that_needs_an_introspection(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A view's attempt limit and retry policy hold for the query itself, schema known or not."""
        server.on("Slow", Answer.hang())
        async with client_of(server.url, backend, validate=True, retry=RetryPolicy()) as client:
            view = client.with_options(timeout=TimeoutPolicy(total=3, attempt=0.3), retry=ONCE)
            error = await timed_out(view, "query Slow { hello }")
        assert (error.phase, error.attempts) == ("attempt", 1)
        assert error.elapsed < 2.5

    async def test_the_total_covers_all_attempts_and_waits(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The failure before is the cause when the total runs out in mid-attempt."""
        server.script(Answer.page(503), Answer.page(502), Answer.hang())
        retry = RetryPolicy(wait_initial=0.01, jitter="none")
        async with client_of(server.url, backend, retry=retry, timeout=TimeoutPolicy(total=0.5)) as client:
            error = await timed_out(client)
        assert (error.phase, error.attempts) == ("total", 3)
        assert isinstance(error.__cause__, HTTPStatusError)
        assert error.__cause__.status == 502
        assert 0.45 <= error.elapsed < 10

    async def test_a_failure_of_the_introspection_is_the_cause_too(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The last failure counts wherever in the call it was."""
        server.on(INTROSPECTION, Answer.page(503), Answer.hang())
        retry = RetryPolicy(wait_initial=0.01, jitter="none")
        async with client_of(
            server.url, backend, validate=True, retry=retry, timeout=TimeoutPolicy(total=0.5)
        ) as client:
            error = await timed_out(client)
        assert isinstance(error.__cause__, HTTPStatusError)
        assert error.__cause__.status == 503

    async def test_a_wait_that_does_not_fit_is_not_begun(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """The last failure is raised at once, long before the total, and says why."""
        server.always(Answer.page(503))
        retry = RetryPolicy(wait_initial=60, wait_max=60, jitter="none")
        async with client_of(
            server.url, backend, owner, retry=retry, timeout=TimeoutPolicy(total=20)
        ) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ hello }")
        error = caught.value
        assert (error.status, error.attempts) == (503, 1)
        assert error.elapsed < 10
        assert "does not fit" in "".join(error.__notes__)

    async def test_a_retry_after_that_does_not_fit_is_not_begun(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """What the server asks for is held against the total as well."""
        server.always(Answer.page(503, headers={"Retry-After": "60"}))
        retry = RetryPolicy(wait_initial=0, jitter="none")
        async with client_of(server.url, backend, retry=retry, timeout=TimeoutPolicy(total=20)) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ hello }")
        assert (caught.value.attempts, caught.value.retry_after) == (1, 60)
        assert caught.value.elapsed < 10

    async def test_a_wait_is_held_against_the_total_of_the_whole_call(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Within an introspection the nearest deadline of all counts, not a fresh one."""
        server.on(INTROSPECTION, Answer.page(503, delay=0.5), Answer.page(503))
        retry = RetryPolicy(wait_initial=0.8, jitter="none")
        async with client_of(
            server.url, backend, validate=True, retry=retry, timeout=TimeoutPolicy(total=1)
        ) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ hello }")
        assert caught.value.status == 503
        assert len(server.requests) == 1

    async def test_the_callers_own_deadline_stays_the_callers(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """``asyncio.timeout`` around a call ends in a bare TimeoutError, the caller's and not one of ours."""
        server.script(Answer.hang())
        async with client_of(server.url, backend, owner) as client:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.15):
                    await client.query("{ hello }")
            assert type(caught.value) is TimeoutError
            assert client.stats().in_flight == 0

    async def test_a_total_and_a_cut_are_told_apart(self, server: ScriptedServer, backend: Backend) -> None:
        """A call ended by closing is no timeout, although the same mechanism ends both."""
        server.script(Answer.hang())
        client = ProductionClient(server.url, validate=False, backend=backend)
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        with pytest.raises(LookupError):
            async with client:
                raise LookupError
        with pytest.raises(ClientClosedError):
            await call

    async def test_a_mutation_waiting_for_the_pool_was_not_sent_when_the_total_runs_out(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Nothing was sent: may_have_executed is False, and the text says so."""
        async with (
            client_of(
                server.url, backend, pool=ONE_SLOT, timeout=TimeoutPolicy(total=30, pool=None)
            ) as client,
            held(client, server),
        ):
            error = await timed_out(client.with_options(timeout=0.2), INCREMENT)
            assert (error.phase, error.attempts, error.may_have_executed) == ("total", 1, False)
            assert "was not sent" in str(error)

    async def test_a_mutation_that_is_connecting_was_not_sent_when_the_total_runs_out(
        self, silent_port: int, backend: Backend
    ) -> None:
        """Also in the middle of a TLS handshake nothing was sent yet."""
        url = f"https://127.0.0.1:{silent_port}/graphql"
        async with client_of(url, backend, timeout=TimeoutPolicy(total=0.15, connect=None)) as client:
            error = await timed_out(client, INCREMENT)
        assert (error.phase, error.may_have_executed) == ("total", False)

    async def test_a_sent_mutation_may_have_executed_when_the_total_runs_out(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """It was sent: may_have_executed is True, and the text warns."""
        server.always(Answer.hang(execute=True))
        async with client_of(server.url, backend, owner, timeout=TimeoutPolicy(total=0.5)) as client:
            error = await timed_out(client, INCREMENT)
        await server.executed("increment", 1)
        assert (error.phase, error.may_have_executed) == ("total", True)
        assert "may have been executed" in str(error)


class TestCallersSession:
    async def test_its_own_read_limit_holds(self, server: ScriptedServer, backend: Backend) -> None:
        """A caller's session keeps its read limit when no timeout is named here."""
        server.script(Answer.hang())
        async with http_session(backend, read=0.2) as session:
            client = ProductionClient(
                server.url, session=session, validate=False, config=ProductionConfig(retry=ONCE)
            )
            error = await timed_out(client)
            assert error.phase == "read"
            assert error.elapsed < 5

    async def test_its_own_read_limit_holds_beside_another_that_is_named(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Naming one limit changes that one alone."""
        server.script(Answer.hang())
        config = ProductionConfig(retry=ONCE, timeout=TimeoutPolicy(total=20, connect=3))
        async with http_session(backend, read=0.2) as session:
            client = ProductionClient(server.url, session=session, validate=False, config=config)
            error = await timed_out(client)
            assert error.phase == "read"
            assert error.elapsed < 5

    async def test_a_read_limit_named_here_counts_before_its_own(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Named for the client or for one view, it counts for those calls; the session keeps its own."""
        server.always(Answer(delay=0.4))
        async with http_session(backend, read=0.2) as session:
            client = ProductionClient(
                server.url, session=session, validate=False, config=ProductionConfig(retry=ONCE)
            )
            longer = client.with_options(timeout=TimeoutPolicy(read=10))
            assert (await longer.query("{ hello }")).data
            assert (await timed_out(client)).phase == "read"
            assert (await longer.query("{ hello }")).data

    async def test_none_named_here_lifts_its_own_limit(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """None is a named value too: no limit."""
        server.always(Answer(delay=0.4))
        config = ProductionConfig(retry=ONCE, timeout=TimeoutPolicy(read=None))
        async with http_session(backend, read=0.2) as session:
            client = ProductionClient(server.url, session=session, validate=False, config=config)
            assert (await client.query("{ hello }")).data

    async def test_its_own_connect_limit_holds(self, silent_port: int, backend: Backend) -> None:
        """A caller's session keeps its connect limit when no timeout is named here."""
        url = f"https://127.0.0.1:{silent_port}/graphql"
        async with http_session(backend, connect=0.1) as session:
            client = ProductionClient(
                url, session=session, validate=False, config=ProductionConfig(retry=ONCE)
            )
            error = await timed_out(client)
            assert error.phase == "connect"
            assert error.elapsed < 4

    async def test_the_total_holds_on_a_session_without_limits(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The total is ours, whoever owns the session."""
        server.script(Answer.hang())
        config = ProductionConfig(retry=ONCE, timeout=TimeoutPolicy(total=0.2))
        async with http_session(backend) as session:
            client = ProductionClient(server.url, session=session, validate=False, config=config)
            assert (await timed_out(client)).phase == "total"

    async def test_an_aiohttp_sessions_own_total_limits_an_attempt(self, server: ScriptedServer) -> None:
        """aiohttp's total is one for each request: for us, a limit of the attempt."""
        server.always(Answer.hang())
        async with http_session("aiohttp", total=0.2) as session:
            config = ProductionConfig(
                retry=RetryPolicy(attempts=2, wait_initial=0), timeout=TimeoutPolicy(connect=5)
            )
            client = ProductionClient(server.url, session=session, validate=False, config=config)
            error = await timed_out(client)
            assert (error.phase, error.attempts) == ("attempt", 2)

    async def test_a_limit_changed_on_an_httpx_client_counts_from_the_next_call(
        self, server: ScriptedServer
    ) -> None:
        """The session stays its owner's: what the owner sets there is never remembered from before."""
        config = ProductionConfig(retry=ONCE, timeout=TimeoutPolicy(total=3, connect=3))
        async with httpx.AsyncClient(timeout=None) as session:
            client = ProductionClient(server.url, session=session, validate=False, config=config)
            assert (await client.query("{ hello }")).data
            session.timeout = httpx.Timeout(0.3)
            server.script(Answer.hang())
            error = await timed_out(client)
            assert error.phase == "read"
            assert error.elapsed < 10

    async def test_a_session_given_for_one_call_keeps_its_own_limits(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The same rule holds for ``query(session=…)``."""
        server.script(Answer.hang())
        async with (
            client_of(server.url, backend) as client,
            http_session(backend, read=0.2) as session,
        ):
            error = await timed_out(client, session=session)
            assert error.phase == "read"
