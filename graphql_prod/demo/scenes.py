"""The scenes: what goes wrong, and what our client promises then.

To add one: a function that plays it on a :class:`Stage` and returns what its client gave, and a line in
``SCENES``. Both clients play every scene; ``kept`` is asked of ours.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLRequest

from graphql_prod.demo.events import COUNT, Events, onward
from graphql_prod.demo.process import Work
from graphql_prod.demo.program import CALLS
from graphql_prod.demo.stage import retry
from graphql_prod.errors import InvalidResponseError
from graphql_prod.resilience.timeouts import TimeoutPolicy
from graphql_prod.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from graphql_prod.demo.outcome import Outcome
    from graphql_prod.demo.stage import Stage
    from graphql_prod.testing import ReceivedRequest

KEY = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that goes wrong."""

    title: str
    promise: str
    play: Callable[[Stage], Awaitable[Any]]
    kept: Callable[[Outcome], bool]
    """Whether this outcome is what ``promise`` says."""


async def unavailable(stage: Stage) -> Any:
    """A proxy's page says when to come again."""
    stage.server.script(Answer.page(503, headers={"Retry-After": "1"}))
    return await stage.client.query("query Unavailable { hello }")


async def reset(stage: Stage) -> Any:
    """The server, or something in between, drops the connection."""
    stage.server.script(Answer.reset("before"))
    return await stage.client.query("query Reset { hello }")


async def slow(stage: Stage) -> Any:
    """The first answer takes two seconds, the second one none."""
    stage.server.script(Answer(delay=2.0))
    return await stage.tuned(timeout=TimeoutPolicy(total=5, attempt=0.4)).query("query Slow { hello }")


async def outage(stage: Stage) -> Any:
    """Nobody listens for a second."""
    async with stage.outage(1.0):
        return await stage.client.query("query Outage { hello }")


async def mutation(stage: Stage) -> Any:
    """The mutation is executed, and its answer is lost."""
    stage.server.script(Answer.reset("before", execute=True))
    return await stage.client.query("mutation Pay { increment }")


async def marked_mutation(stage: Stage) -> Any:
    """The same, with a key; the server plays one that knows keys, so the repeat gets the stored answer."""
    done = stage.server.counter + 1
    stored = Answer.graphql(data={"increment": done})
    stage.server.on("PayOnce", Answer.reset("before", execute=True), stored)
    answer = await stage.tuned(retry=retry(idempotency_header=KEY)).query("mutation PayOnce { increment }")
    if one_key(stage.server.requests[-2:]):
        stage.tell("the same key came again: the server sends the answer it had stored")
    return answer


async def expired_token(stage: Stage) -> Any:
    """The token was good a moment ago."""
    stage.server.on("Token", Answer.page(401))
    return await stage.client.query("query Token { hello }")


async def settings_file(stage: Stage) -> Any:
    """The retry policy comes from a file: 2 attempts, 0.1 s apart."""
    stage.server.on("Settings", Answer.page(502))
    settings = "[retry]\nattempts = 2\nwait_initial = 0.1\njitter = 'none'\n"
    async with stage.made_of(settings) as client:
        return await client.query("query Settings { hello }")


async def quota(stage: Stage) -> Any:
    """The upstream refuses as GitHub does: inside a 200, with the time in a header."""
    body = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}
    stage.server.on("Quota", Answer(body=body, media_type="application/json", headers=headers))
    async with stage.made_of('[throttling]\npreset = "github"\n') as client:
        return await client.query("mutation Quota { increment }")


async def login_page(stage: Stage) -> Any:
    """A portal in between answers everything with its login page, under a 200."""
    stage.server.always(Answer.login_page(), "Login")
    return await stage.client.query("query Login { hello }")


async def restart(stage: Stage) -> Any:
    """Half of the events have come when the server goes away; it is back a moment later."""
    stage.server.tick = 0.02
    events = Events(10)
    request = GraphQLRequest(COUNT, variables={"from": 0, "to": events.end - 1})
    async with stage.restart(events.halfway, 0.3):
        await stage.subscribe(request, events.take, on_gap=events.gap, resume=onward)
    return events


async def sigterm(stage: Stage) -> Any:
    """The answers are still to come, and events wait to be worked on, when the program shall end."""
    work, release = Work(CALLS), asyncio.Event()
    stage.server.always(Answer(gate=release), "Work")
    async with stage.at_work(work) as ended:
        stage.tell(f"SIGTERM to a program: {CALLS} calls and {work.sent - len(work.numbers)} events wait")
        stage.program.terminate()
        await asyncio.wait({ended}, timeout=0.3)
        if not ended.done():
            stage.tell("the server answers its calls")
            release.set()
        await ended
    if work.report:
        stage.quote(work.report)
    return work


def answered(outcome: Outcome, requests: int) -> bool:
    """Whether a real answer came, after so many requests had reached the server."""
    return outcome.kind == "answer" and len(outcome.requests) == requests


def unbroken(events: Any) -> bool:
    """Whether every event came once and in order, with one gap told somewhere between them."""
    if not isinstance(events, Events) or len(events.gaps) != 1:
        return False
    return events.whole and 0 < events.gaps[0] < events.end


def orderly(work: Any) -> bool:
    """Whether a program lost nothing, told so, and ended by itself."""
    return isinstance(work, Work) and work.whole and bool(work.report) and work.status == 0


def other_token(requests: Sequence[ReceivedRequest]) -> bool:
    """Whether each request came with a token of its own."""
    return len({request.headers.get("Authorization") for request in requests}) == len(requests)


def one_key(requests: Sequence[ReceivedRequest]) -> bool:
    """Whether every request carried the same key."""
    keys = {request.headers.get(KEY) for request in requests}
    return len(keys) == 1 and None not in keys


SCENES = (
    Scene(
        "503 with Retry-After",
        "waits the second that the server asks for, then gets the answer",
        unavailable,
        lambda end: answered(end, requests=2) and end.seconds >= 1.0,
    ),
    Scene(
        "connection reset",
        "a query changes nothing, so it is asked again",
        reset,
        lambda end: answered(end, requests=2),
    ),
    Scene(
        "slow answer (2 s)",
        "given 0.4 s an attempt, asks again and has the answer in under 2 s",
        slow,
        lambda end: answered(end, requests=2) and end.seconds < 2.0,
    ),
    Scene(
        "outage of 1 s",
        "goes on trying until it is back",
        outage,
        lambda end: answered(end, requests=1),
    ),
    Scene(
        "mutation, answer lost",
        "not repeated, executed once, and the error says that it may have been executed",
        mutation,
        lambda end: bool(end.may_have_executed) and end.executions == 1 and len(end.requests) == 1,
    ),
    Scene(
        "the same with a key",
        "repeated under one idempotency key: a server that knows keys executes it once",
        marked_mutation,
        lambda end: answered(end, requests=2) and one_key(end.requests) and end.executions == 1,
    ),
    Scene(
        "the token expires",
        "asks its headers_provider for a new one, once, and repeats the call",
        expired_token,
        lambda end: answered(end, requests=2) and other_token(end.requests),
    ),
    Scene(
        "settings from a file",
        "a client made by from_config() does as the file says",
        settings_file,
        lambda end: answered(end, requests=2) and 0.1 <= end.seconds < 1.0,
    ),
    Scene(
        "quota used up, status 200",
        "waits until the quota is whole, then sends the mutation again: it was refused, not executed",
        quota,
        lambda end: answered(end, requests=2) and end.executions == 1 and end.seconds >= 1.0,
    ),
    Scene(
        "login page, status 200",
        "an error, never empty data that looks like an answer",
        login_page,
        lambda end: isinstance(end.error, InvalidResponseError),
    ),
    Scene(
        "subscription, restart",
        "connects again, tells the gap, resumes with a cursor: no event missing or doubled",
        restart,
        lambda end: answered(end, requests=2) and unbroken(end.result),
    ),
    Scene(
        "SIGTERM in mid-work",
        "finishes the calls and events that wait, tells of it, and exits with status 0",
        sigterm,
        lambda end: orderly(end.result),
    ),
)
