"""The texts of errors, each made by what it is about; docs/troubleshooting.md is made from this table.

python tests/error_texts.py    # writes the page (make docs)
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from graphql_prod import (
    AdmissionPolicy,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SchemaPolicy,
    ShutdownPolicy,
    SubscriptionPolicy,
    ThrottlingPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
QUERY, MUTATION = "query Orders { hello }", "mutation Pay { increment }"
COUNT = "subscription Follow { count }"

INTRO = """\
# Troubleshooting

By the text of the error. Made by `make docs` from the table of the tests (`tests/error_texts.py`), where each error is made by what it
is about. Hosts, numbers and names of operations are examples; `…` stands for a time.

Every error of a call carries `attempts`, `elapsed` and `may_have_executed`. **`may_have_executed=True` on a mutation means: look before you
send it again.**
"""


@dataclass(frozen=True)
class Text:
    """An error, what it means, and what to do.

    :ivar make: makes it happen, with a server.
    """

    group: str
    make: Callable[[ScriptedServer], Awaitable[Any]]
    means: str
    do: str


TEXTS: list[Text] = []


def text(group: str, means: str, do: str) -> Callable[[Any], Any]:
    """Add a row."""

    def add(make: Callable[[ScriptedServer], Awaitable[Any]]) -> Any:
        TEXTS.append(Text(group, make, means, do))
        return make

    return add


@contextlib.asynccontextmanager
async def client_of(url: str, **settings: Any) -> AsyncIterator[ProductionClient]:
    """A client that does not validate unless it is told to."""
    objects = {name: settings.pop(name) for name in ("session", "headers_provider") if name in settings}
    validate = settings.pop("validate", False)
    config = ProductionConfig(**settings)
    async with ProductionClient(url, config=config, validate=validate, **objects) as client:
        yield client


async def asked(url: str, document: str = QUERY, **settings: Any) -> None:
    """One call."""
    async with client_of(url, **settings) as client:
        await client.query(document)


async def answered(server: ScriptedServer, answer: Answer, document: str = QUERY, **settings: Any) -> None:
    """One call, which is always answered so."""
    server.always(answer)
    await asked(server.url, document, **settings)


REACH = "The server is not reached"
TIME = "It takes too long"
ANSWER = "The answer is no answer"
REFUSED = "The server refuses"
SOCKETS = "Subscriptions"
OURS = "The client itself refuses"


@text(REACH, "nobody listens there: the server is down, or the port is wrong", "start it; check the endpoint")
async def refused(_: ScriptedServer) -> None:
    await asked("http://127.0.0.1:1/graphql")


@text(REACH, "the name has no address", "check the name, and the resolver of this machine")
async def unresolved(_: ScriptedServer) -> None:
    await asked("http://no-such-host.invalid/graphql")


@text(REACH, "the certificate was made by an authority that is not trusted here", "set `tls.ca_file`")
async def untrusted(server: ScriptedServer) -> None:
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with ScriptedServer(ssl_context=context) as other:
        await asked(other.url)


@text(
    REACH,
    "the connection broke after the mutation was sent. It may have run",
    "look whether it did, then send it again; with a key (`retry.idempotency_header`) the client does that itself",
)
async def lost(server: ScriptedServer) -> None:
    await answered(server, Answer.reset("headers"), MUTATION)


@text(
    REACH, "the server closes connections in the middle of answers, four times in a row", "look into its log"
)
async def cut(server: ScriptedServer) -> None:
    await answered(server, Answer.truncated())


@text(
    TIME,
    "the server sent nothing for `timeout.read`",
    "make the query faster, or raise `timeout.read`; `timeout=60` limits the whole call only",
)
async def silent(server: ScriptedServer) -> None:
    await answered(
        server, Answer.hang(), timeout=TimeoutPolicy(total=30, read=0.05), retry=RetryPolicy(attempts=1)
    )


@text(TIME, "the whole call, waits included, took longer than `timeout.total`", "raise it, or ask for less")
async def overdue(server: ScriptedServer) -> None:
    await answered(server, Answer.hang(), timeout=TimeoutPolicy(total=0.1))


@text(
    TIME,
    "every attempt was ended by `timeout.read`, until the total was over",
    "raise `timeout.read`: more total alone is no use",
)
async def overdue_by_read(server: ScriptedServer) -> None:
    await answered(
        server,
        Answer.hang(),
        timeout=TimeoutPolicy(total=0.5, read=0.2),
        retry=RetryPolicy(wait_initial=0.001, wait_max=0.001),
    )


@text(
    TIME,
    "more calls at once than `pool.requests`, and none came free within `timeout.pool`",
    "raise `pool.requests`, or make fewer calls at once",
)
async def no_connection(server: ScriptedServer) -> None:
    server.always(Answer.hang())
    pool, timeout = PoolPolicy(requests=1, retry_headroom=0), TimeoutPolicy(total=30, pool=0.05)
    async with client_of(server.url, pool=pool, timeout=timeout, retry=RetryPolicy(attempts=1)) as client:
        first = asyncio.create_task(client.query(QUERY))
        await server.received(1)
        try:
            await client.query(QUERY)
        finally:
            first.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await first


@text(
    ANSWER,
    "the server, or a proxy before it, fails",
    "look into its log; `Retry-After` is honoured by itself",
)
async def unavailable(server: ScriptedServer) -> None:
    await answered(server, Answer.page(503))


@text(
    ANSWER,
    "a page in the place of an answer: a portal, a wrong path, a login",
    "check the endpoint's path and the credentials",
)
async def login(server: ScriptedServer) -> None:
    await answered(server, Answer.login_page(), retry=RetryPolicy(attempts=1))


@text(ANSWER, "the answer is no JSON", "look at what stands between; the text says where it stops being JSON")
async def no_json(server: ScriptedServer) -> None:
    body = b'{"data": {"hello": '
    await answered(server, Answer(body=body, media_type="application/json"), retry=RetryPolicy(attempts=1))


@text(
    ANSWER,
    "the endpoint has moved, or a login is in front. Redirects are never followed: they would carry credentials",
    "take the address that it names, if you trust it",
)
async def moved(server: ScriptedServer) -> None:
    await answered(server, Answer.redirect("https://login.example.com/"))


@text(ANSWER, "more than `max_response_bytes`, after decompression", "ask for pages, or raise it")
async def too_large(server: ScriptedServer) -> None:
    await answered(server, Answer(body={"data": {"hello": "x" * 5000}}), max_response_bytes=1000)


@text(REFUSED, "the path is wrong, more often than not", "check the endpoint")
async def not_found(server: ScriptedServer) -> None:
    await answered(server, Answer.page(404))


@text(REFUSED, "credentials are missing, wrong or over", "`headers_provider` renews them by itself")
async def unauthorized(server: ScriptedServer) -> None:
    await answered(server, Answer.page(401))


@text(
    REFUSED,
    "the server asks to wait longer than the call has",
    'raise the call\'s total or `throttling.max_wait`, call less, or set `mode = "pace"`',
)
async def throttled(server: ScriptedServer) -> None:
    answer = Answer.page(429, headers={"Retry-After": "60"})
    await answered(server, answer, throttling=ThrottlingPolicy(mode="retry"))


@text(
    REFUSED,
    "`throttling.rate` allows no call in the time that this one has",
    "raise the rate, or the call's total",
)
async def paced(server: ScriptedServer) -> None:
    policy = ThrottlingPolicy(mode="retry", rate=0.01, burst=1)
    async with client_of(server.url, throttling=policy, timeout=TimeoutPolicy(total=1)) as client:
        await client.query(QUERY)
        await client.query(QUERY)


@text(
    REFUSED,
    "introspection gave no schema, and `schema.mode` is `strict`",
    'set `schema.file`, or `mode = "off"`',
)
async def no_schema(server: ScriptedServer) -> None:
    server.always(Answer.graphql(errors=["introspection is not allowed"]))
    await asked(server.url, schema=SchemaPolicy(mode="strict"), validate=True)


@text(OURS, "the client is closed, or closing", "keep it open as long as the program runs")
async def closed(server: ScriptedServer) -> None:
    async with client_of(server.url) as client:
        pass
    await client.query(QUERY)


@text(
    OURS,
    "the call was under way when the deadline of the shutdown came",
    "raise `shutdown.deadline`, or stop sending earlier",
)
async def cut_at_shutdown(server: ScriptedServer) -> None:
    server.always(Answer.hang())
    async with client_of(server.url, shutdown=ShutdownPolicy(deadline=0)) as client:
        call = asyncio.create_task(client.query(MUTATION))
        await server.received(1)
        await client.shutdown(0)
        await call


@text(
    OURS,
    'an operator has isolated the server with `client.isolate()`; without "by hand" it was `admission`, because most calls failed',
    "`client.restore()`; admission opens by itself",
)
async def isolated(server: ScriptedServer) -> None:
    async with client_of(server.url, admission=AdmissionPolicy(mode="adaptive")) as client:
        client.isolate("maintenance")
        await client.query(QUERY)


@text(OURS, "settings that cannot work, all of them at once", "mend what it names")
async def misconfigured(_: ScriptedServer) -> None:
    ProductionConfig(timeout={"total": -1}, retry={"atempts": 3})


@text(OURS, "an endpoint that is no URL", "give a whole one")
async def no_url(_: ScriptedServer) -> None:
    ProductionClient("api.example.com/graphql")


@text(OURS, "a subscription was given to `query()`", "`subscribe()` or `stream()`")
async def subscription_as_query(server: ScriptedServer) -> None:
    await asked(server.url, COUNT)


@text(OURS, "a mutation over GET may run twice", "leave the method out")
async def mutation_over_get(server: ScriptedServer) -> None:
    async with client_of(server.url) as client:
        await client.query(MUTATION, method="get")


@text(OURS, "a variable that is no JSON", "convert it first: `str(value)`, `float(value)`")
async def no_json_variable(server: ScriptedServer) -> None:
    from decimal import Decimal

    async with client_of(server.url) as client:
        await client.query("query Orders($a: Float) { hello }", variables={"a": Decimal("1.5")})


@text(
    SOCKETS,
    "the server refuses the credentials of subscriptions",
    "renew them: `headers_provider`, or `connection_init_payload`",
)
async def forbidden(server: ScriptedServer) -> None:
    server.on_init = lambda _: 4403
    async with client_of(server.url) as client:
        await client.subscribe(COUNT)


@text(
    SOCKETS,
    "the server took the connection and said nothing",
    "check that it speaks a protocol of `protocols`",
)
async def no_ack(server: ScriptedServer) -> None:
    server.never_ack = True
    policy = SubscriptionPolicy(ack_timeout=0.05, connect_attempts=1)
    async with client_of(server.url, subscriptions=policy) as client:
        await client.subscribe(COUNT)


@text(
    SOCKETS, "a path, or a proxy, that knows no WebSockets", "check the path; let the proxy pass upgrades on"
)
async def no_upgrade(server: ScriptedServer) -> None:
    server.on_connect = lambda _: 404
    async with client_of(server.url, subscriptions=SubscriptionPolicy(connect_attempts=1)) as client:
        await client.subscribe(COUNT)


@text(SOCKETS, "one socket more than `pool.subscriptions`", "`share_connection = true`, or raise it")
async def too_many(server: ScriptedServer) -> None:
    async with client_of(server.url, pool=PoolPolicy(subscriptions=1)) as client:
        await client.subscribe(COUNT)
        await client.subscribe(COUNT)


@text(
    SOCKETS,
    "the reader is slower than the events, and `overflow` is `error`, or the socket is shared",
    'read faster, raise `max_queue`, or set `overflow = "drop_oldest"`',
)
async def slow_reader(server: ScriptedServer) -> None:
    server.tick = 0.0
    policy = SubscriptionPolicy(max_queue=1, overflow="error")
    async with client_of(server.url, subscriptions=policy) as client:
        events = client.stream(COUNT)
        await anext(events)
        await server.socket_count(0)
        async for _ in events:
            pass


@text(SOCKETS, "the program's own `resume` raised", "see the cause")
async def bad_resume(server: ScriptedServer) -> None:
    server.tick = 0.001

    def resume(*_: Any) -> dict[str, Any]:
        raise KeyError("cursor")

    async with client_of(server.url, subscriptions=SubscriptionPolicy(wait_initial=0.001)) as client:
        events = client.stream(COUNT, resume=resume)
        await anext(events)
        await server.close_sockets(1012)
        async for _ in events:
            pass


@text(REACH, "a network that swallows what is sent", "look at firewalls and at the path to the host")
async def black_hole(server: ScriptedServer) -> None:
    async with FaultyProxy(server.port) as proxy:
        proxy.blackhole = True
        await asked(
            proxy.url_for(), MUTATION, timeout=TimeoutPolicy(total=0.2), retry=RetryPolicy(attempts=1)
        )


@text(
    REACH,
    "the session that was given has been closed by its owner",
    "keep it open, or let the client own one",
)
async def closed_session(server: ScriptedServer) -> None:
    async with aiohttp.ClientSession() as session:
        pass
    await asked(server.url, session=session)


async def shown(row: Text) -> tuple[str, str]:
    """The type and the text of the error, with what differs from run to run taken out."""
    async with ScriptedServer() as server:
        with no_waiting():
            try:
                await row.make(server)
            except Exception as error:  # noqa: BLE001 -- the subject
                return type(error).__name__, plain(str(error))
    raise AssertionError(f"{row.make.__name__} raised nothing")


def plain(text: str) -> str:
    """Without what differs from run to run."""
    text = re.sub(r"127\.0\.0\.1:\d+", "api.example.com", text)
    text = re.sub(r"in \d+\.\d\d s", "in … s", text)
    text = re.sub(r"(wait|in) \d+(\.\d+)? s\b", r"\1 … s", text)
    return " ".join(text.split())


async def page() -> str:
    """The whole page."""
    parts = [INTRO]
    for group in (REACH, TIME, ANSWER, REFUSED, OURS, SOCKETS):
        parts.append(f"\n## {group}\n")
        parts.extend([await paragraph(row) for row in TEXTS if row.group == group])
    return "".join(parts)


async def paragraph(row: Text) -> str:
    """What the page says of one."""
    kind, said = await shown(row)
    return f"\n> {said}\n\n`{kind}`. {row.means[0].upper()}{row.means[1:]}. **Do**: {row.do}.\n"


if __name__ == "__main__":
    import logging

    logging.getLogger("graphql_prod").addHandler(logging.NullHandler())
    PAGE.write_text(asyncio.run(page()), encoding="utf-8")
