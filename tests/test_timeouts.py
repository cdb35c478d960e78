"""Time limits: the arithmetic of a policy, every phase on every kind of session, one total over all of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from aiographql.client.exceptions import GraphQLTransportException

from graphql_prod import (
    BATCH,
    INTERACTIVE,
    PROBE,
    STANDARD,
    ClientClosedError,
    ConfigurationError,
    HTTPStatusError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiographql.client.transport import GraphQLSession

Backend = Literal["aiohttp", "httpx"]
Owner = Literal["owned", "given"]

ONCE = RetryPolicy(attempts=1)
ONE_SLOT = PoolPolicy(requests=1, retry_headroom=0)
INCREMENT = "mutation Add { increment }"
INTROSPECTION = "IntrospectionQuery"


@pytest.fixture(params=["owned", "given"])
def owner(request: pytest.FixtureRequest) -> Owner:
    """Each test that asks for it runs with a session of ours, and with a caller's."""
    return request.param  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def http_session(
    backend: Backend,
    *,
    limit: int = 100,
    connect: float | None = None,
    read: float | None = None,
    total: float | None = None,
) -> AsyncIterator[GraphQLSession]:
    """A caller's session with limits of its own; None means none."""
    if backend == "aiohttp":
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=connect, sock_read=read)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit), timeout=timeout
        ) as session:
            yield session
    else:
        async with httpx.AsyncClient(
            limits=httpx.Limits(max_connections=limit),
            timeout=httpx.Timeout(None, connect=connect, read=read),
            verify=False,
        ) as client:
            yield client


@contextlib.asynccontextmanager
async def client_of(
    url: str,
    backend: Backend,
    owner: Owner = "owned",
    *,
    limit: int = 100,
    validate: bool = False,
    **settings: Any,
) -> AsyncIterator[ProductionClient]:
    """A client with one attempt a call, unless told otherwise."""
    settings.setdefault("retry", ONCE)
    if owner == "owned":
        config = ProductionConfig(backend=backend, **settings)
        async with ProductionClient(url, validate=validate, config=config) as client:
            yield client
    else:
        async with http_session(backend, limit=limit) as session:
            config = ProductionConfig(**settings)
            async with ProductionClient(url, session=session, validate=validate, config=config) as client:
                yield client


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken by the kernel, and nobody ever reads or says a word."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


async def timed_out(
    client: ProductionClient, query: str = "{ hello }", **options: Any
) -> RequestTimeoutError:
    """The timeout that a call ends in."""
    with pytest.raises(RequestTimeoutError) as caught:
        await client.query(query, **options)
    return caught.value


@contextlib.asynccontextmanager
async def held(client: ProductionClient, server: ScriptedServer) -> AsyncIterator[None]:
    """One call that holds its connection while the block runs."""
    gate, before = asyncio.Event(), len(server.requests)
    server.on("Holder", Answer(gate=gate))
    holder = asyncio.create_task(client.with_options(timeout=30).query("query Holder { hello }"))
    await server.received(before + 1)
    try:
        yield
    finally:
        gate.set()
        await holder


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
        assert dict(ProductionConfig(timeout=value).timeout) == dict(expected)

    def test_an_unknown_preset_is_refused_with_those_that_exist(self) -> None:
        """A misspelt preset names the four that there are, in a config and in a view."""
        with pytest.raises(ConfigurationError, match=r"interactive.*standard.*batch.*probe"):
            ProductionConfig(timeout="fast")
        client = ProductionClient("http://127.0.0.1:1/graphql")
        with pytest.raises(ConfigurationError, match=r"'fast'.*interactive"):
            client.with_options(timeout="fast")

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
