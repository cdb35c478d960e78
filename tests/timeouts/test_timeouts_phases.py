"""The policy, and the limit of each phase."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiographql.client.exceptions import GraphQLTransportException
from timing_out import INCREMENT, ONE_SLOT, Backend, Owner, client_of, held, timed_out

from graphql_prod import (
    BATCH,
    INTERACTIVE,
    PROBE,
    STANDARD,
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer


class TestPolicy:
    def test_defaults_are_the_standard_preset(self) -> None:
        """A policy that names nothing is STANDARD: 30 s in all, 5 to connect, 10 to read."""
        policy = TimeoutPolicy()
        assert (policy.total, policy.attempt, policy.connect, policy.read) == (30, None, 5, 10)
        assert dict(policy) == dict(STANDARD)

    @pytest.mark.parametrize(
        ("preset", "limits"),
        [
            (INTERACTIVE, (5, 2, 1, 2)),
            (STANDARD, (30, None, 5, 10)),
            (BATCH, (300, 120, 10, 60)),
            (PROBE, (2, None, 1, 2)),
        ],
    )
    def test_presets_have_the_promised_numbers(
        self, preset: TimeoutPolicy, limits: tuple[float | None, ...]
    ) -> None:
        """The presets are the guide's."""
        assert (preset.total, preset.attempt, preset.connect, preset.read) == limits

    @pytest.mark.parametrize(
        ("named", "expected"),
        [
            ({"total": 2}, {"total": 2, "connect": 2, "read": None, "write": 2, "pool": 2, "attempt": None}),
            ({"attempt": 1}, {"total": 30, "attempt": 1, "connect": 1, "read": 1, "pool": 1}),
            ({"attempt": 60}, {"total": 60, "attempt": 60, "connect": 5, "read": 10}),
            ({"read": 40}, {"total": 40, "read": 40, "connect": 5}),
            ({"connect": 40, "attempt": 50}, {"total": 50, "attempt": 50, "connect": 40, "read": 10}),
            ({"total": 100}, {"total": 100, "connect": 5, "read": None}),
            ({"total": 100, "attempt": 50}, {"attempt": 50, "read": None}),
            ({"total": None}, {"total": None, "connect": 5, "read": 10}),
            ({"read": None}, {"total": 30, "read": None}),
            ({"total": 3, "connect": None}, {"total": 3, "connect": None, "read": None}),
            ({"total": 1, "read": 1}, {"total": 1, "read": 1, "connect": 1}),
        ],
    )
    def test_what_is_not_named_makes_room(
        self, named: dict[str, float | None], expected: dict[str, float | None]
    ) -> None:
        """A partial group merges over STANDARD; defaults are fitted to the numbers that were named."""
        policy = TimeoutPolicy(**named)
        assert {name: getattr(policy, name) for name in expected} == expected
        assert policy.named == set(named)

    @pytest.mark.parametrize(
        "named",
        [
            {"attempt": 3, "total": 2},
            {"connect": 3, "attempt": 2},
            {"connect": 3, "total": 2},
            {"read": 3, "attempt": 2},
            {"read": 3, "total": 2},
            {"pool": 3, "total": 2},
            {"write": 3, "attempt": 2},
        ],
    )
    def test_named_contradictions_are_refused(self, named: dict[str, float]) -> None:
        """Two named numbers that contradict one another are refused, naming both settings and values."""
        inner, outer = named
        with pytest.raises(ConfigurationError) as caught:
            TimeoutPolicy(**named)
        text = str(caught.value)
        assert f"{inner}=3" in text
        assert f"{outer}=2" in text
        assert isinstance(caught.value, ValueError)

    def test_all_contradictions_are_told_at_once(self) -> None:
        """Every contradiction is in the one error."""
        with pytest.raises(ConfigurationError) as caught:
            TimeoutPolicy(total=1, attempt=2, connect=3)
        assert {problem.key for problem in caught.value.problems} == {
            "attempt, total",
            "connect, total",
            "connect, attempt",
        }

    def test_a_default_never_contradicts(self) -> None:
        """Only numbers that the user named are compared with one another."""
        assert TimeoutPolicy(total=0.001).connect == 0.001
        assert TimeoutPolicy(attempt=500).total == 500

    @pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), "soon"])
    def test_a_limit_is_a_positive_number(self, value: Any) -> None:
        """Zero, negative, infinite and other values are refused, naming the key; None is 'no limit'."""
        with pytest.raises(ConfigurationError, match="read"):
            TimeoutPolicy(read=value)

    def test_an_unknown_limit_is_refused(self) -> None:
        """A misspelt key is refused with those that are known."""
        with pytest.raises(ConfigurationError, match=r"conect.*connect"):
            TimeoutPolicy(conect=1)  # type: ignore[call-arg]

    def test_a_policy_is_frozen(self) -> None:
        """A policy is a value: nobody changes it under a call."""
        with pytest.raises(ValueError, match="frozen"):
            STANDARD.total = 1  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("value", "expected"),
        [("interactive", INTERACTIVE), ("STANDARD", STANDARD), ("batch", BATCH), ("probe", PROBE)],
    )
    def test_a_preset_goes_by_its_name(self, value: str, expected: TimeoutPolicy) -> None:
        """A config and a view take a preset's name."""
        assert dict(ProductionConfig(timeout=value).timeout) == dict(expected)  # type: ignore[arg-type]

    def test_an_unknown_preset_is_refused_with_those_that_exist(self) -> None:
        """A misspelt preset names the four that there are, in a config and in a view."""
        with pytest.raises(ConfigurationError, match=r"interactive.*standard.*batch.*probe"):
            ProductionConfig(timeout="fast")  # type: ignore[arg-type]
        client = ProductionClient("http://127.0.0.1:1/graphql")
        with pytest.raises(ConfigurationError, match=r"'fast'.*interactive"):
            client.with_options(timeout="fast")  # type: ignore[arg-type]

    def test_a_mapping_in_a_config_is_a_partial_group(self) -> None:
        """A group in a config merges over STANDARD, and its contradictions carry the whole key."""
        policy = ProductionConfig(timeout={"total": 4}).timeout
        assert (policy.total, policy.connect, policy.read) == (4, 4, None)
        with pytest.raises(ConfigurationError, match=r"timeout\.attempt, total"):
            ProductionConfig(timeout={"total": 4, "attempt": 5})


class TestPhases:
    async def test_waiting_for_a_slot_times_out_as_pool(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """On our sessions a wait for the pool is told apart from a slow connect; nothing was sent."""
        async with (
            client_of(
                server.url, backend, pool=ONE_SLOT, timeout=TimeoutPolicy(pool=0.05, connect=20)
            ) as client,
            held(client, server),
        ):
            error = await timed_out(client, INCREMENT)
            assert (error.phase, error.attempts, error.may_have_executed) == ("pool", 1, False)
            assert "pool.requests" in str(error)
            assert len(server.requests) == 1
        assert server.executions["increment"] == 0

    async def test_waiting_for_a_callers_httpx_pool_times_out_as_pool(self, server: ScriptedServer) -> None:
        """httpx tells its pool's timeout itself; nothing was sent."""
        async with (
            client_of(server.url, "httpx", "given", limit=1, timeout=TimeoutPolicy(pool=0.05)) as client,
            held(client, server),
        ):
            error = await timed_out(client, INCREMENT)
            assert (error.phase, error.may_have_executed) == ("pool", False)
            assert len(server.requests) == 1

    async def test_waiting_for_a_callers_aiohttp_pool_counts_as_connect(self, server: ScriptedServer) -> None:
        """aiohttp has one limit for both; nothing was sent."""
        async with (
            client_of(server.url, "aiohttp", "given", limit=1, timeout=TimeoutPolicy(connect=0.05)) as client,
            held(client, server),
        ):
            error = await timed_out(client, INCREMENT)
            assert (error.phase, error.may_have_executed) == ("connect", False)
            assert len(server.requests) == 1

    async def test_a_handshake_that_does_not_come_times_out_as_connect(
        self, silent_port: int, backend: Backend, owner: Owner
    ) -> None:
        """Connecting includes TLS; a mutation that waited for it was not sent, and may be repeated."""
        url = f"https://127.0.0.1:{silent_port}/graphql"
        retry = RetryPolicy(attempts=2, wait_initial=0)
        async with client_of(
            url, backend, owner, retry=retry, timeout=TimeoutPolicy(connect=0.05, pool=5)
        ) as client:
            error = await timed_out(client, INCREMENT)
        assert (error.phase, error.attempts, error.may_have_executed) == ("connect", 2, False)
        assert "timeout.connect" in str(error)

    async def test_silence_times_out_as_read(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """No answer within the limit; a mutation may have been executed, and is not repeated."""
        server.always(Answer.hang(execute=True))
        async with client_of(
            server.url,
            backend,
            owner,
            retry=RetryPolicy(wait_initial=0),
            timeout=TimeoutPolicy(read=0.2),
        ) as client:
            error = await timed_out(client, INCREMENT)
        assert (error.phase, error.attempts, error.may_have_executed) == ("read", 1, True)
        assert 0.15 <= error.elapsed < 10
        assert server.executions["increment"] == 1

    async def test_silence_in_mid_body_times_out_as_read(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """The limit holds for every wait for bytes, not only for the first."""
        server.script(Answer.drip(chunk=5, pause=60))
        async with client_of(server.url, backend, owner, timeout=TimeoutPolicy(read=0.2)) as client:
            error = await timed_out(client)
        assert (error.phase, error.attempts, error.may_have_executed) == ("read", 1, False)

    async def test_a_slow_body_is_no_silence(self, server: ScriptedServer, backend: Backend) -> None:
        """Read limits silence, not the time that an answer takes in all."""
        server.script(Answer.drip(chunk=1, pause=0.03, body={"data": {"echo": "x" * 10}}))
        async with client_of(server.url, backend, timeout=TimeoutPolicy(read=0.6)) as client:
            started = asyncio.get_running_loop().time()
            response = await client.query("{ echo }")
            assert response.data == {"echo": "x" * 10}
            assert asyncio.get_running_loop().time() - started > 0.6

    async def test_an_attempt_is_limited_as_a_whole(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Attempt limits one attempt to its last byte, also where bytes keep coming; a query goes again."""
        server.always(Answer.drip(chunk=1, pause=0.05, body={"data": {"echo": "x" * 5000}}))
        retry = RetryPolicy(attempts=2, wait_initial=0)
        async with client_of(
            server.url, backend, owner, retry=retry, timeout=TimeoutPolicy(attempt=0.2)
        ) as client:
            error = await timed_out(client, "{ echo }")
        assert (error.phase, error.attempts) == ("attempt", 2)
        assert 0.35 <= error.elapsed < 10
        assert len(server.requests) == 2

    async def test_an_attempt_includes_the_wait_for_the_pool(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """An attempt that never got a slot was not sent."""
        async with (
            client_of(
                server.url, backend, pool=ONE_SLOT, timeout=TimeoutPolicy(total=30, pool=None)
            ) as client,
            held(client, server),
        ):
            limited = client.with_options(timeout=TimeoutPolicy(attempt=0.1, pool=None))
            error = await timed_out(limited, INCREMENT)
            assert (error.phase, error.may_have_executed) == ("attempt", False)

    async def test_the_total_ends_a_call_that_is_never_silent(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """The total holds on both backends, httpx included, which has none of its own."""
        server.always(Answer.drip(chunk=1, pause=0.05, body={"data": {"echo": "x" * 5000}}))
        async with client_of(server.url, backend, owner, timeout=TimeoutPolicy(total=0.2)) as client:
            error = await timed_out(client, "{ echo }")
        assert (error.phase, error.attempts, error.may_have_executed) == ("total", 1, False)
        assert 0.15 <= error.elapsed < 10

    async def test_a_server_that_does_not_take_the_request_times_out_as_write(self, silent_port: int) -> None:
        """On a caller's httpx client the write limit is httpx's; the mutation may have been executed."""
        url = f"http://127.0.0.1:{silent_port}/graphql"
        async with client_of(url, "httpx", "given", timeout=TimeoutPolicy(write=0.2)) as client:
            error = await timed_out(client, INCREMENT, variables={"big": "x" * 20_000_000})
        assert (error.phase, error.attempts, error.may_have_executed) == ("write", 1, True)
        assert "timeout.write" in str(error)

    # aiohttp's advice on bodies over 1 MiB; the stock client hands bytes over too.
    @pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
    async def test_a_stuck_request_body_ends_with_the_total(
        self, silent_port: int, backend: Backend, owner: Owner
    ) -> None:
        """Where write is best effort the total still holds."""
        url = f"http://127.0.0.1:{silent_port}/graphql"
        limits = TimeoutPolicy(total=0.3, read=0.3, write=None)
        async with client_of(url, backend, owner, timeout=limits) as client:
            error = await timed_out(client, INCREMENT, variables={"big": "x" * 20_000_000})
        assert (error.phase, error.may_have_executed) == ("total", True)
        assert error.elapsed < 10

    async def test_a_timeout_is_both_a_transport_error_and_a_timeout(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Handlers written for the stock client and for asyncio both catch it; its text says what to do."""
        server.script(Answer.hang())
        async with client_of(server.url, backend, timeout=TimeoutPolicy(total=0.1)) as client:
            error = await timed_out(client)
        assert isinstance(error, GraphQLTransportException)
        assert isinstance(error, TimeoutError)
        assert f"127.0.0.1:{server.port}" in str(error)
        assert "after 1 attempt " in str(error)
        assert "timeout.total" in str(error)

    async def test_no_limit_means_no_limit(self, server: ScriptedServer, backend: Backend) -> None:
        """None switches a limit off, also for a view of a client with a short one."""
        server.always(Answer(delay=0.4))
        none = TimeoutPolicy(total=None, attempt=None, connect=None, read=None, write=None, pool=None)
        async with client_of(server.url, backend, timeout=TimeoutPolicy(total=0.2)) as client:
            assert (await client.with_options(timeout=none).query("{ hello }")).data
            assert (await timed_out(client)).phase == "total"
