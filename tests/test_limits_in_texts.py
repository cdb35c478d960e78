"""An error names the limit that ended the attempts, and advises nothing that the settings already say."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
import tenacity

from graphql_prod import (
    CallError,
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from subscribing import Backend

Owner = Literal["owned", "given"]
AT_ONCE = RetryPolicy(attempts=3, wait_initial=0, wait_max=0)
MUTATION = "mutation Add { increment }"


@contextlib.asynccontextmanager
async def client_of(
    server: ScriptedServer, backend: Backend, owner: Owner, *, session: Any = None, **settings: Any
) -> AsyncIterator[ProductionClient]:
    settings.setdefault("retry", AT_ONCE)
    async with contextlib.AsyncExitStack() as stack:
        if owner == "given":
            library: Any = aiohttp.ClientSession if backend == "aiohttp" else httpx.AsyncClient
            session = await stack.enter_async_context(library(**(session or {})))
        client = ProductionClient(
            server.url,
            validate=False,
            backend=None if owner == "given" else backend,
            session=session if owner == "given" else None,
            config=ProductionConfig(**settings),
        )
        yield await stack.enter_async_context(client)


async def failure_of(client: ProductionClient, document: str = "{ hello }") -> Any:
    with pytest.raises(CallError) as caught:
        await client.query(document)
    return caught.value


async def test_attempts_that_are_used_up(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """The setting and its number; nothing of it where none was due, or only one was wanted."""
    server.always(Answer.page(503))
    async with client_of(server, backend, owner) as client:
        used_up = await failure_of(client)
        mutation = await failure_of(client, MUTATION)
        single = await failure_of(client.with_options(retry=RetryPolicy(attempts=1)))
    assert "The 3 attempts that retry.attempts allows are used up." in str(used_up)
    assert used_up.attempts == 3
    for error in (mutation, single):
        assert "retry.attempts" not in str(error)


async def test_a_tenacity_object_that_stops(server: ScriptedServer, backend: Backend) -> None:
    """It is the caller's own, and not a setting of ours."""
    server.always(Answer.page(503))
    retry = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2))
    async with client_of(server, backend, "owned", retry=retry) as client:
        error = await failure_of(client)
    assert "The given tenacity object allows no further attempt." in str(error)
    assert "retry.attempts" not in str(error)


async def test_a_wait_that_does_not_fit(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """The total ended it, and not the limit that came last."""
    server.always(Answer.hang())
    retry = RetryPolicy(wait_initial=60, wait_max=60, jitter="none")
    limits = TimeoutPolicy(total=30, read=0.1)
    async with client_of(server, backend, owner, retry=retry, timeout=limits) as client:
        error = await failure_of(client)
    assert (type(error), error.phase) == (RequestTimeoutError, "read")
    assert "timeout.total (30 s) leaves no time for a retry." in str(error)
    assert "timeout.read" not in str(error)
    assert "session's own" not in str(error)


async def test_a_budget_that_is_spent(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Not the attempts, of which there are more."""
    server.always(Answer.hang())
    budget = RetryBudget(ratio=0, reserve=0)
    retry = RetryPolicy(wait_initial=0, wait_max=0, budget=budget)
    async with client_of(server, backend, owner, retry=retry, timeout=TimeoutPolicy(read=0.1)) as client:
        for _ in range(20):
            error = await failure_of(client)
            if error.attempts == 1:
                break
    assert "The retry budget (retry.budget) leaves no further attempt." in str(error)
    assert "timeout.read" not in str(error)
    assert "retry.attempts" not in str(error)


async def test_a_total_in_mid_attempt(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """The total is named, and the failure before it is its cause."""
    server.script(Answer.page(503))
    server.always(Answer.hang())
    limits = TimeoutPolicy(total=1.0, read=None)
    async with client_of(server, backend, owner, timeout=limits) as client:
        error = await failure_of(client)
    assert (type(error), error.phase) == (RequestTimeoutError, "total")
    assert "raise timeout.total" in str(error)
    assert isinstance(error.__cause__, HTTPStatusError)


async def test_a_limit_of_our_own(server: ScriptedServer, backend: Backend, owner: Owner) -> None:
    """Named with its value, where it was named."""
    server.always(Answer.hang())
    async with client_of(
        server, backend, owner, retry=RetryPolicy(attempts=1), timeout=TimeoutPolicy(read=0.1)
    ) as client:
        error = await failure_of(client)
    assert "raise timeout.read (now 0.1 s)" in str(error)
    assert ("or the session's own limit" in str(error)) is (owner == "given")


@pytest.mark.parametrize("limits", [TimeoutPolicy(total=60), TimeoutPolicy()])
async def test_a_limit_of_the_sessions_own(
    server: ScriptedServer, backend: Backend, limits: TimeoutPolicy
) -> None:
    """Raising ours would do nothing: it is none, or does not hold on a session that is the caller's."""
    server.always(Answer.hang())
    session: dict[str, Any] = {"timeout": 0.1}
    if backend == "aiohttp":
        session["timeout"] = aiohttp.ClientTimeout(sock_read=0.1)
    async with client_of(
        server, backend, "given", session=session, retry=RetryPolicy(attempts=1), timeout=limits
    ) as client:
        error = await failure_of(client)
    assert error.phase == "read"
    assert "raise the session's own limit." in str(error)
    assert "timeout.read" not in str(error)


async def test_429_in_the_settings_is_not_advised(server: ScriptedServer, backend: Backend) -> None:
    """Where a query that is refused is repeated already, to wait for the server is not."""
    server.always(Answer.page(429))
    async with client_of(server, backend, "owned") as client:
        listed = client.with_options(
            retry=RetryPolicy(attempts=2, wait_initial=0, wait_max=0, statuses={429})
        )
        assert "set throttling.mode to retry" in str(await failure_of(client))
        assert "set throttling" not in str(await failure_of(listed))
        assert "set throttling.mode" in str(await failure_of(client, MUTATION))


async def test_a_client_that_closes(
    server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waits for another attempt when the client closes hears why there is none."""
    server.always(Answer.page(503))
    retry = RetryPolicy(wait_initial=20, wait_max=20, jitter="none")
    async with client_of(server, backend, "owned", retry=retry) as client:
        call = asyncio.create_task(failure_of(client))
        async with asyncio.timeout(10):
            while "the next one follows" not in caplog.text:
                await asyncio.sleep(0.001)
        await client.shutdown(5)
        error = await call
    assert type(error) is HTTPStatusError
    assert "The client is closing and retries nothing." in str(error)


def test_every_error_of_ours_is_a_call_error() -> None:
    """One clause for all, with the facts on each."""
    import graphql_prod

    for name in graphql_prod.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(graphql_prod, name), CallError), name
    error = ConfigurationError("no")
    assert (error.attempts, error.elapsed, error.may_have_executed) == (0, 0.0, False)


async def test_no_waiting_changes_no_text(server: ScriptedServer) -> None:
    """A user's test sees the text of production."""
    server.always(Answer.page(503))
    with no_waiting():
        async with client_of(server, "aiohttp", "owned", retry=RetryPolicy()) as client:
            assert "The 4 attempts that retry.attempts allows are used up." in str(await failure_of(client))
