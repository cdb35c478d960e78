"""A renewal that did not help is not asked for again within 30 s, nor is the call repeated then."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import pytest
from clocks import Later
from subscribing import COUNT, Follower, client_of

from graphql_prod import HTTPStatusError, SubscriptionClosedError, clock
from graphql_prod.renewals import REMEMBERED, Renewals, of_errors, of_status
from graphql_prod.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql_prod import ProductionClient
    from graphql_prod.testing import ScriptedServer

Backend = Literal["aiohttp", "httpx"]


@pytest.fixture
def later() -> Iterator[Later]:
    with clock.using(Later()) as running:
        yield running  # type: ignore[misc]


class Issuer:
    """Tokens; a renewal gives the next one."""

    def __init__(self) -> None:
        self.number = 1
        self.asked: list[bool] = []

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        self.number += refresh
        return {"Authorization": f"Bearer {self.number}"}

    @property
    def renewals(self) -> int:
        return sum(self.asked)


class SyncIssuer(Issuer):
    def __call__(self, refresh: bool = False) -> dict[str, str]:  # type: ignore[override]
        self.asked.append(refresh)
        self.number += refresh
        return {"Authorization": f"Bearer {self.number}"}


class ForgetfulIssuer(Issuer):
    """One that does not keep what a renewal gave."""

    def __call__(self, refresh: bool = False) -> dict[str, str]:  # type: ignore[override]
        self.asked.append(refresh)
        return {"Authorization": "Bearer new" if refresh else "Bearer old"}


@pytest.fixture(params=[Issuer, SyncIssuer, ForgetfulIssuer])
def issuer(request: pytest.FixtureRequest) -> Issuer:
    """Each test that asks for it runs with these providers."""
    return request.param()  # type: ignore[no-any-return]


def refused(*paths: list[Any] | None, data: Any = None) -> Answer:
    """An answer that refuses fields; None stands for an error without a path."""
    errors = [
        {
            "message": "no",
            "extensions": {"code": "UNAUTHENTICATED"},
            **({} if path is None else {"path": path}),
        }
        for path in paths
    ]
    return Answer(body={"data": data, "errors": errors}, media_type="application/graphql-response+json")


FIELD = refused(["secret"], data={"hello": "Hello", "secret": None})
WHOLE = refused(None)
PAGE = Answer.page(401)


def client_for(server: ScriptedServer, issuer: Issuer, backend: Backend = "aiohttp", **policy: Any) -> Any:
    return client_of(server.url, backend, objects={"headers_provider": issuer}, **policy)


async def ask(client: ProductionClient, name: str) -> None:
    with contextlib.suppress(HTTPStatusError):
        await client.query(f"query {name} {{ hello }}")


@pytest.mark.parametrize("answer", [FIELD, WHOLE, PAGE], ids=["field", "whole", "401"])
async def test_twenty_queries(
    server: ScriptedServer, backend: Backend, issuer: Issuer, answer: Answer, later: Later
) -> None:
    """What is always refused costs one renewal and one repetition in 30 s, and then another one."""
    server.always(answer, "Bad")
    async with client_for(server, issuer, backend) as client:
        for rounds in (1, 2):
            for _ in range(20):
                await ask(client, "Bad")
            assert (issuer.renewals, len(server.requests)) == (rounds, rounds * 21)
            later.ahead += 29
            await ask(client, "Bad")
            assert issuer.renewals == rounds
            server.requests.pop()
            later.ahead += 2


async def test_the_answer_comes_out(server: ScriptedServer, issuer: Issuer) -> None:
    """What is not repeated ends as it would without a provider: the answer is returned, a page raised."""
    server.always(FIELD, "Bad")
    server.always(PAGE, "Page")
    async with client_for(server, issuer) as client:
        for attempts in (2, 1):
            assert (await client.query("query Bad { hello }")).data["hello"] == "Hello"
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("query Page { hello }")
            assert caught.value.attempts == attempts


async def test_a_token_that_expires_meanwhile(
    server: ScriptedServer, backend: Backend, issuer: Issuer, later: Later
) -> None:
    """Ten seconds after a renewal in vain the token expires: whatever worked before is renewed."""
    server.always(FIELD, "Bad")
    async with client_for(server, issuer, backend) as client:
        for expired in (
            PAGE,
            WHOLE,
            refused(["hello"]),
            refused(["hello"], ["secret"], data={"hello": None, "secret": None}),
        ):
            later.ahead += 100
            await ask(client, "Bad")
            before = issuer.renewals
            await ask(client, "Bad")
            await ask(client, "Good")
            later.ahead += 10
            server.on("Good", expired)
            assert (await client.query("query Good { hello }")).data == {"hello": "Hello, world!"}
            assert issuer.renewals == before + 1


async def test_the_same_document_expires(server: ScriptedServer, issuer: Issuer, later: Later) -> None:
    """A document with a field that is always refused is renewed when other fields of it are refused too."""
    both = refused(["hello"], ["secret"], data={"hello": None, "secret": None})
    server.script(FIELD, FIELD, FIELD, both, FIELD, PAGE, FIELD)
    async with client_for(server, issuer) as client:
        for renewals in (1, 1, 2, 3):
            await ask(client, "Bad")
            assert issuer.renewals == renewals
    assert len(server.requests) == 7


async def test_the_same_field_elsewhere(server: ScriptedServer, issuer: Issuer) -> None:
    """The field counts, not the document, nor the place in a list."""
    for number in range(20):
        server.always(refused(["users", number, "secret"], data={"users": []}), f"Bad{number}")
    async with client_for(server, issuer) as client:
        for number in range(20):
            await ask(client, f"Bad{number}")
    assert (issuer.renewals, len(server.requests)) == (1, 21)


@pytest.mark.parametrize("answer", [WHOLE, PAGE], ids=["whole", "401"])
async def test_dead_credentials(server: ScriptedServer, issuer: Issuer, answer: Answer) -> None:
    """Where nothing is answered any more, one renewal is enough for all documents."""
    server.always(answer)
    async with client_for(server, issuer) as client:
        for number in range(20):
            await ask(client, f"Bad{number}")
    assert (issuer.renewals, len(server.requests)) == (1, 21)


@pytest.mark.parametrize("kind", ["field", "whole", "401"])
async def test_ever_new_reasons(server: ScriptedServer, kind: str, later: Later) -> None:
    """Ever new reasons are refused while others are answered: three renewals in vain are enough."""
    issuer = Issuer()
    for number in range(20):
        field = refused([f"alias{number}"], data={"hello": "Hello"})
        server.always({"field": field, "whole": WHOLE, "401": PAGE}[kind], f"Bad{number}")
    async with client_for(server, issuer) as client:
        for number in range(20):
            await ask(client, f"Bad{number}")
            await ask(client, "Good")
        assert (issuer.renewals, len(server.requests)) == (3, 43)
        later.ahead += 31
        await ask(client, "Bad0")
        assert issuer.renewals == 4


async def test_users_of_a_sync_provider(server: ScriptedServer) -> None:
    """A user whose token is dead does not keep another user's from being renewed."""
    issued = {"alice": 1, "bob": 1}
    user = "alice"

    def provider(refresh: bool = False) -> dict[str, str]:
        issued[user] += refresh
        return {"Authorization": f"{user} {issued[user]}"}

    async with client_of(server.url, objects={"headers_provider": provider}) as client:
        server.script(PAGE, PAGE, PAGE)
        for _ in range(2):
            await ask(client, "Q")
        assert issued == {"alice": 2, "bob": 1}
        user = "bob"
        server.script(PAGE)
        assert (await client.query("query Q { hello }")).data == {"hello": "Hello, world!"}
    assert issued == {"alice": 2, "bob": 2}


async def test_views(server: ScriptedServer) -> None:
    """What did not help one view's provider says nothing of another's."""
    one, two = Issuer(), Issuer()
    server.always(FIELD, "Bad")
    async with client_for(server, one) as client:
        for _ in range(3):
            await ask(client, "Bad")
            await ask(client.with_options(timeout=9), "Bad")
        view = client.with_options(headers_provider=two)
        for _ in range(3):
            await ask(view, "Bad")
    assert (one.renewals, two.renewals) == (1, 1)


async def test_a_renewal_that_helps(server: ScriptedServer, issuer: Issuer) -> None:
    """Tokens that expire again and again are renewed each time."""
    async with client_for(server, issuer) as client:
        for renewals in range(1, 11):
            server.script(PAGE)
            await client.query("{ hello }")
            assert issuer.renewals == renewals


@pytest.mark.parametrize("share", [False, True])
async def test_subscriptions(
    counting: ScriptedServer, backend: Backend, issuer: Issuer, later: Later, share: bool
) -> None:
    """A socket that is refused after a renewal too: the next subscriptions ask for none, for 30 s."""
    counting.on_init = lambda _: 4403
    async with client_for(counting, issuer, backend, share_connection=share, linger=0.0) as client:
        for rounds in (1, 2):
            for _ in range(5):
                with pytest.raises(SubscriptionClosedError):
                    await client.subscribe(COUNT)
            assert issuer.renewals == rounds
            later.ahead += 31


async def test_a_socket_that_lasted(
    counting: ScriptedServer, backend: Backend, issuer: Issuer, later: Later
) -> None:
    """Where a renewal was in vain, a connection that had stayed up is renewed all the same."""
    refuse = [True]
    counting.on_init = lambda _: 4401 if refuse[0] else None
    async with client_for(counting, issuer, backend) as client:
        with pytest.raises(SubscriptionClosedError):
            await client.subscribe(COUNT)
        refuse[0] = False
        async with Follower(client, "stream") as follower:
            await follower.came()
            for renewals in (1, 2):
                assert issuer.renewals == renewals
                later.ahead += 11
                await counting.close_sockets(4401)
                await follower.went_on(renewals)
            assert issuer.renewals == 3


async def test_reasons_in_turn(server: ScriptedServer, issuer: Issuer) -> None:
    """Refusals of several kinds in turn: each is renewed once, though that changes the token of all."""
    answers = {
        "Field": FIELD,
        "Whole": WHOLE,
        "Page": PAGE,
        "Other": refused(["other"], data={"other": None}),
    }
    for name, answer in answers.items():
        server.always(answer, name)
    async with client_for(server, issuer) as client:
        for _ in range(5):
            for name in answers:
                await ask(client, name)
                await ask(client, "Good")
        assert issuer.renewals == len(answers)


class TestDecision:
    """The decision itself, without calls."""

    def test_a_token_that_worked_in_between(self) -> None:
        """What the renewed credentials were good for before they were refused was no renewal in vain."""
        known, refusal = Renewals(), of_status("{ a }", None)
        known.begun()
        known.answered("{ a }", None, 1, None)
        known.did_not_help(refusal, 1, None)
        assert known.may_help(refusal, None)
        known.answered("{ b }", None, 2, None)
        known.did_not_help(refusal, 2, None)
        assert not known.may_help(refusal, None)

    def test_flapping(self) -> None:
        """That, three times within 30 s, is enough too: half of the servers may not know the token yet."""
        known, refusal = Renewals(), of_status("{ a }", None)
        known.begun()
        for generation in (1, 2, 3):
            assert known.may_help(refusal, None)
            known.answered("{ a }", None, generation, None)
            known.did_not_help(refusal, generation, None)
            known.did_not_help(refusal, generation, None)
        assert not known.may_help(refusal, None)
        assert known.may_help(refusal, 5)

    def test_expiry_beside_documents_that_are_always_refused(self) -> None:
        """What is never answered takes no renewal from what was answered, which tells of an expiry."""
        known, good = Renewals(), of_status("{ good }", None)
        known.begun()
        for generation, name in enumerate("abc", 1):
            known.answered("{ good }", None, generation - 1, None)
            refusal = of_status(f"{{ {name} }}", None)
            assert known.may_help(refusal, None)
            known.did_not_help(refusal, generation, None)
        known.answered("{ good }", None, 3, None)
        assert not known.may_help(of_status("{ d }", None), None)
        assert known.may_help(good, None)

    def test_bounded(self) -> None:
        """However many users, fields and documents there are, so many are remembered."""
        known = Renewals()
        for number in range(REMEMBERED * 2):
            headers = {"Authorization": str(number)}
            known.replaced(headers, {"Authorization": f"{number} renewed"})
            known.answered(f"{{ a{number} }}", None, number, known.scope_of(headers))
            path = {"path": [f"a{number}", number, "b"]}
            known.did_not_help(of_errors([path], "{ a }", None), number, known.scope_of(headers))
            known.did_not_help(of_status(f"{{ a{number} }}", None), number, known.scope_of(headers))
        sizes = [len(getattr(known, name)) for name in known.__slots__ if name not in ("watching", "_since")]
        assert max(sizes) == REMEMBERED

    def test_watching_ends(self, later: Later) -> None:
        """Calls pay for it for 30 s after a renewal, and no more."""
        known = Renewals()
        assert not known.watching
        known.begun()
        known.answered("{ a }", None, 1, None)
        assert known.watching
        later.ahead += 31
        known.answered("{ a }", None, 1, None)
        assert not known.watching
