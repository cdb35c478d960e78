"""Mode auto: calls go on where a server gives no schema."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import (
    GraphQLClientException,
    GraphQLClientValidationException,
    GraphQLIntrospectionException,
    GraphQLRequest,
    GraphQLResponse,
    GraphQLTransport,
)
from logged import facts_of
from schema_policies_of import OFF, URL, config_of
from schema_world import (
    ADD,
    CHANGED,
    HELLO,
    HELLO_DATA,
    INTROSPECTION,
    ONCE,
    SECRET,
    WRONG,
    Hand,
    asked,
    asked_so_often,
    client_of,
    dropped,
    landed,
    requested,
    said,
    warned,
    warnings_of,
)
from subscribing import COUNT, Follower, until

from graphql_prod import (
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    SchemaPolicy,
    TimeoutPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from pathlib import Path

    from schema_world import Backend
    from subscribing import Mode

FLAWED = (
    "type Query { hello: String } interface Named { name: String } type Thing implements Named { id: ID }"
)


def coded(code: str, status: int = 200) -> Answer:
    """A GraphQL answer of errors alone."""
    error = {"message": f"no {SECRET}", "extensions": {"code": code, "detail": SECRET}}
    return Answer.graphql(status, errors=[error], headers={"X-Key": SECRET})


# What servers that will not be introspected say.
REFUSALS: dict[str, Answer] = {
    "Apollo": coded("GRAPHQL_VALIDATION_FAILED", 400),
    "Hasura": coded("validation-failed"),
    "a 400 page": Answer.page(400, SECRET),
    "a 403 page": Answer.page(403, SECRET),
    "a 403 with errors": coded("FORBIDDEN", 403),
    "a 404 page": Answer.page(404, SECRET),
    "a 405": Answer(status=405, body={"error": SECRET}),
    "errors without a code": Answer.graphql(errors=[SECRET]),
    "errors beside no schema": Answer.graphql(data={"__schema": None}, errors=[SECRET]),
    "no schema": Answer.graphql(data={}),
    "an empty schema": Answer.graphql(data={"__schema": {}}),
    "a schema that cannot be built": Answer.graphql(
        data={"__schema": {"queryType": {"name": SECRET}, "types": [], "directives": []}}
    ),
}
# The status that the warning names.
STATUS = {
    "Apollo": 400,
    "a 400 page": 400,
    "a 403 page": 403,
    "a 403 with errors": 403,
    "a 404 page": 404,
    "a 405": 405,
}
# What may be over soon, without saying anything about introspection.
SOFT: dict[str, Answer] = {
    "a 401 page": Answer.page(401, SECRET),
    "a 401 with errors": coded("OTHER", 401),
    "UNAUTHENTICATED": coded("UNAUTHENTICATED"),
    "invalid-jwt": coded("invalid-jwt"),
    "INTERNAL_SERVER_ERROR": coded("INTERNAL_SERVER_ERROR"),
}
# A server that is down, or on its way there.
DOWN: dict[str, tuple[Answer, type[Exception]]] = {
    "a 503 page": (Answer.page(503, SECRET), HTTPStatusError),
    "a 502 page": (Answer.page(502, SECRET), HTTPStatusError),
    "a 503 with errors": (coded("OVERLOADED", 503), GraphQLClientException),
    "a 500 with errors": (coded("GRAPHQL_VALIDATION_FAILED", 500), GraphQLClientException),
    "a 429 page": (Answer.page(429, SECRET), HTTPStatusError),
    "a 429 with errors": (coded("RATE_LIMITED", 429), GraphQLClientException),
    "a 408 page": (Answer.page(408, SECRET), HTTPStatusError),
    "a 425 page": (Answer.page(425, SECRET), HTTPStatusError),
    "a login page": (Answer.login_page(), InvalidResponseError),
    "a redirect": (Answer.redirect(f"https://elsewhere/?{SECRET}"), HTTPStatusError),
    "a reset": (Answer.reset("before"), TransportError),
    "a close": (Answer.disconnect(), TransportError),
    "half an answer": (Answer.truncated(10), GraphQLClientException),
    "silence": (Answer.hang(), RequestTimeoutError),
}


def auto(url: str, backend: Backend | None = None, **policy: Any) -> ProductionClient:
    """A client that validates where it can, with something to keep secret."""
    headers = {"X-Key": SECRET}
    config = ProductionConfig(
        retry=ONCE, timeout=TimeoutPolicy(read=0.3), schema=SchemaPolicy(**policy), headers=headers
    )
    url = url.replace("://", f"://user:{SECRET}@") + f"?token={SECRET}"
    return ProductionClient(url, backend=backend, config=config)


class TestAuto:
    @pytest.mark.parametrize("refusal", REFUSALS)
    async def test_refused(
        self, server: ScriptedServer, backend: Backend, refusal: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Calls go on unvalidated, the server is not asked again, and that is told once, in our words."""
        server.always(REFUSALS[refusal], INTROSPECTION)
        async with auto(server.url, backend) as client:
            for caller in (client, client.with_options(timeout=9), client):
                assert (await caller.query(HELLO)).data == HELLO_DATA
                assert (await caller.query(WRONG)).errors
                await caller.validate(requested(WRONG))
            assert client.stats().schema_age is None
        assert asked(server) == 1
        (record,) = warnings_of(caplog)
        assert f"127.0.0.1:{server.port}" in record.getMessage()
        assert SECRET not in said(caplog)
        reason = facts_of(record)["reason"]
        untaken = refusal in ("an empty schema", "a schema that cannot be built")
        why = "what came is not taken" if untaken else "introspection is off"
        assert f"({reason}; {why})" in record.getMessage()
        without = "a schema that cannot be built" if untaken else "a GraphQL answer without"
        assert reason.startswith(str(STATUS[refusal]) if refusal in STATUS else without)

    async def test_refused_to_many(self, server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
        """All that wait go on, after one introspection and one warning."""
        gate = asyncio.Event()
        server.always(Answer.page(400, gate=gate), INTROSPECTION)
        async with auto(server.url) as client:
            calls = [asyncio.create_task(client.query(HELLO)) for _ in range(50)]
            await server.received(1)
            gate.set()
            assert [each.data for each in await asyncio.gather(*calls)] == [HELLO_DATA] * 50
        assert asked(server) == len(warnings_of(caplog)) == 1

    async def test_refused_by_a_transport_of_somebodys(self, caplog: pytest.LogCaptureFixture) -> None:
        """One that hides the status: what the answer says is all there is."""

        class Own(GraphQLTransport):
            async def request(
                self, method: str, request: GraphQLRequest, serializer: Any, **kwargs: Any
            ) -> GraphQLResponse:
                refused: dict[str, Any] = {"errors": [{"message": SECRET}]}
                hidden = "__schema" in request.query
                return GraphQLResponse(request=request, json=refused if hidden else {"data": HELLO_DATA})

            async def close(self) -> None: ...

        config = ProductionConfig(schema=SchemaPolicy(mode="auto"))
        async with ProductionClient(URL, transport=Own(), config=config) as client:
            for _ in range(2):
                assert (await client.query(HELLO)).data == HELLO_DATA
        assert len(warnings_of(caplog)) == 1
        assert SECRET not in said(caplog)

    async def test_refused_by_a_subclass(self, server: ScriptedServer) -> None:
        """One that overrides ``introspect()`` and calls ours."""

        class Mine(ProductionClient):
            async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
                return await super().introspect({**(headers or {}), "X-Mine": "yes"})

        server.always(OFF, INTROSPECTION)
        async with Mine(server.url, config=config_of(mode="auto")) as client:
            assert (await client.query(HELLO)).data == HELLO_DATA
            server.always(None, INTROSPECTION)
            await client.get_schema()
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
        assert [seen.headers.get("X-Mine") for seen in server.requests] == ["yes", None, "yes"]

    @pytest.mark.parametrize("mode", ["auto", "strict"])
    async def test_refused_to_a_schema_of_somebodys(self, server: ScriptedServer, mode: str) -> None:
        """By an override of ``get_schema()`` too: a strict client, and a forced call, say so each time."""

        class Mine(ProductionClient):
            async def get_schema(
                self, refresh: bool = False, headers: dict[str, str] | None = None
            ) -> graphql.GraphQLSchema:
                return await super().get_schema(refresh, headers)

        server.always(OFF, INTROSPECTION)
        async with Mine(server.url, config=config_of(mode=mode)) as client:
            for _ in range(3):
                if mode == "auto":
                    assert (await client.query(HELLO)).data == HELLO_DATA
                else:
                    with pytest.raises(GraphQLClientException):
                        await client.query(HELLO)
                with pytest.raises(GraphQLClientException):
                    await client.validate(requested(HELLO), force=True)

    async def test_refused_to_a_mutation(self, server: ScriptedServer) -> None:
        """It runs, once."""
        server.always(OFF, INTROSPECTION)
        async with auto(server.url) as client:
            assert (await client.query(ADD)).data == {"increment": 1}
        assert server.executions["increment"] == 1

    async def test_refused_is_asked_again_after_the_ttl(
        self, server: ScriptedServer, hand: Hand, caplog: pytest.LogCaptureFixture
    ) -> None:
        """In the background, at each ttl; no second warning, and validated as soon as there is a schema."""
        server.always(OFF, INTROSPECTION)
        async with auto(server.url, ttl=60) as client:
            for n in range(1, 4):
                assert (await client.query(HELLO)).data == HELLO_DATA
                await asked_so_often(server, n)
                await landed()
                for _ in range(3):
                    assert (await client.query(HELLO)).data == HELLO_DATA
                hand.now += 61
            assert asked(server) == 3
            assert len(warnings_of(caplog)) == 1
            server.always(None, INTROSPECTION)
            await client.query(HELLO)
            await until(lambda: client.stats().schema_age is not None)
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)

    async def test_refused_for_good(self, server: ScriptedServer, hand: Hand) -> None:
        """Without a ttl nobody asks again."""
        server.always(OFF, INTROSPECTION)
        async with auto(server.url) as client:
            for _ in range(3):
                await client.query(HELLO)
                hand.now += 1e6
        assert asked(server) == 1

    @pytest.mark.parametrize("refusal", SOFT)
    async def test_refused_for_now(
        self,
        server: ScriptedServer,
        backend: Backend,
        refusal: str,
        hand: Hand,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """What new credentials may mend is asked again in the background, 1 s later, then 2, then 4."""
        server.always(SOFT[refusal], INTROSPECTION)
        async with auto(server.url, backend) as client:

            async def calls() -> None:
                for _ in range(3):
                    assert (await client.query(HELLO)).data == HELLO_DATA
                    assert (await client.query(WRONG)).errors

            await calls()
            assert asked(server) == len(warnings_of(caplog)) == 1
            for n, wait in enumerate([1, 2, 4], 1):
                hand.now += wait - 0.1
                await calls()
                assert asked(server) == n
                hand.now += 0.2
                await client.query(HELLO)
                await asked_so_often(server, n + 1)
                await landed()
                await calls()
            assert len(warnings_of(caplog)) == 1
            server.always(None, INTROSPECTION)
            hand.now += 8.1
            await client.query(HELLO)
            await until(lambda: client.stats().schema_age is not None)
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
        assert SECRET not in said(caplog)

    @pytest.mark.parametrize("trouble", DOWN)
    async def test_down(
        self, server: ScriptedServer, backend: Backend, trouble: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Is no refusal: the call fails with what happened, and the next one asks again and is validated."""
        answer, kind = DOWN[trouble]
        server.on(INTROSPECTION, answer, answer)
        async with auto(server.url, backend) as client:
            for _ in range(2):
                with pytest.raises(kind) as caught:
                    await client.query(HELLO)
                assert caught.value.attempts == 1  # type: ignore[attr-defined]
            assert server.executions["hello"] == 0
            assert (await client.query(HELLO)).data == HELLO_DATA
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
        assert asked(server) == 3
        assert SECRET not in said(caplog)

    async def test_unreachable(self, backend: Backend) -> None:
        """So is a port where nobody listens."""
        async with ScriptedServer() as server:
            client = auto(server.url, backend)
            await server.stop()
            with pytest.raises(TransportError):
                await client.query(HELLO)
            await server.start()
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
            await client.close()

    @pytest.mark.parametrize("refusal", ["Apollo", "Hasura", "a 403 page", "no schema"])
    async def test_strict(
        self, server: ScriptedServer, backend: Backend, refusal: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A strict client raises what was said, each time anew, and warns of nothing."""
        server.always(REFUSALS[refusal], INTROSPECTION)
        async with client_of(server.url, backend) as client:
            for n in range(1, 4):
                with pytest.raises((GraphQLIntrospectionException, HTTPStatusError)):
                    await client.query(HELLO)
                assert asked(server) == n
        assert server.executions["hello"] == 0
        assert warnings_of(caplog) == []

    @pytest.mark.parametrize("refusal", ["Apollo", "a 401 page"])
    async def test_a_known_schema_is_kept(
        self, server: ScriptedServer, hand: Hand, refusal: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A refresh that is refused is a failed refresh: documents are validated as before."""
        async with auto(server.url, ttl=10) as client:
            await client.query(HELLO)
            server.always((REFUSALS | SOFT)[refusal], INTROSPECTION)
            hand.now += 11
            await client.query(HELLO)
            await warned(caplog, 1)
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
            assert client.stats().schema_age == 11

    async def test_a_known_schema_is_not_to_be_kept(
        self, server: ScriptedServer, hand: Hand, caplog: pytest.LogCaptureFixture
    ) -> None:
        """``stale_if_error=False`` and a refusal: calls go on unvalidated, which is told."""
        async with auto(server.url, ttl=10, stale_if_error=False) as client:
            await client.query(HELLO)
            server.always(OFF, INTROSPECTION)
            hand.now += 11
            await client.query(HELLO)
            await dropped(client)
            for _ in range(3):
                assert (await client.query(WRONG)).errors
        assert 1 <= len(warnings_of(caplog)) <= 2


class TestSubscriptions:
    async def test_validated(self, counting: ScriptedServer, mode: Mode, backend: Backend) -> None:
        """A document that does not fit opens no socket; one that fits runs."""
        async with client_of(counting.url, backend) as client:
            error = await Follower(client, mode, request="subscription { nothing }").end()
            assert isinstance(error, GraphQLClientValidationException)
            assert counting.upgrades == []
            async with Follower(client, mode, request=COUNT) as follower:
                await follower.came()
        assert asked(counting) == 1

    async def test_off(self, counting: ScriptedServer, mode: Mode) -> None:
        """Unvalidated it is the server that refuses."""
        async with client_of(counting.url) as client:
            view = client.with_options(validate=False)
            await Follower(view, mode, request="subscription { nothing }").end()
        assert (len(counting.upgrades), asked(counting)) == (1, 0)

    async def test_auto(self, counting: ScriptedServer, mode: Mode) -> None:
        """Where introspection is refused they go on."""
        counting.always(OFF, INTROSPECTION)
        async with (
            client_of(counting.url, mode="auto") as client,
            Follower(client, mode, request=COUNT) as follower,
        ):
            await follower.came()

    async def test_strict(self, counting: ScriptedServer, mode: Mode) -> None:
        """A strict client does not subscribe without a schema; the next one asks again."""
        counting.on(INTROSPECTION, OFF)
        async with client_of(counting.url) as client:
            error = await Follower(client, mode, request=COUNT).end()
            assert isinstance(error, GraphQLIntrospectionException)
            async with Follower(client, mode, request=COUNT) as follower:
                await follower.came()
        assert (asked(counting), len(counting.upgrades)) == (2, 1)


class TestFlaws:
    @pytest.mark.parametrize("source", ["schema", "validate", "introspection", "file"])
    async def test_a_schema_that_breaks_rules(
        self, server: ScriptedServer, source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Is used all the same, with one warning that counts what is wrong with it."""
        flawed = graphql.build_schema(FLAWED)
        server.always(
            Answer.graphql(
                data=dict(graphql.introspection_from_schema(graphql.build_schema(FLAWED, assume_valid=True)))
            ),
            INTROSPECTION,
        )
        (tmp_path / "schema.graphql").write_text(FLAWED, "utf-8")
        client = {
            "schema": lambda: client_of(server.url, objects={"schema": flawed}),
            "validate": lambda: client_of(server.url),
            "introspection": lambda: client_of(server.url),
            "file": lambda: client_of(server.url, file=tmp_path / "schema.graphql"),
        }[source]()
        given = flawed if source == "validate" else None
        async with client:
            for _ in range(2):
                await client.validate(requested(HELLO), schema=given)
                with pytest.raises(GraphQLClientValidationException):
                    await client.validate(requested("{ counter }"), schema=given)
        (record,) = warnings_of(caplog)
        assert "1" in record.getMessage()

    async def test_a_schema_that_is_well(
        self, server: ScriptedServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No warning, here as after a change upstream."""
        async with client_of(server.url) as client:
            await client.query(HELLO)
            server.sdl = CHANGED
            await client.get_schema(refresh=True)
            await client.query(WRONG)
        assert server.sdl != SDL
        assert warnings_of(caplog) == []
