"""Whether documents are validated, and against what: modes, presets, the stock's arguments, refusals."""

from __future__ import annotations

import asyncio
import re
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
    a_few_rounds,
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
    DEVELOPMENT,
    PRODUCTION,
    PRODUCTION_CLOSED,
    ConfigurationError,
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    SchemaPolicy,
    TimeoutPolicy,
    TransportError,
    clock,
)
from graphql_prod.__main__ import main
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from schema_world import Backend
    from subscribing import Mode

URL = "http://api.example.com/graphql"
OTHER = graphql.build_schema("type Query { other: Int }")
OFF = Answer.graphql(400, errors=["introspection is off"])
FLAWED = (
    "type Query { hello: String } interface Named { name: String } type Thing implements Named { id: ID }"
)


@pytest.fixture
def hand() -> Iterator[Hand]:
    """Time that passes when the test says so."""
    with clock.using(found := Hand()):
        yield found


def config_of(**policy: Any) -> ProductionConfig:
    return ProductionConfig(schema=SchemaPolicy(**policy))


class TestSettings:
    def test_defaults(self) -> None:
        """A config that says nothing: validate where that is possible, ask once, stale beats down."""
        policy = ProductionConfig().schema
        assert policy == SchemaPolicy()
        assert (policy.mode, policy.ttl, policy.file, policy.stale_if_error) == ("auto", None, None, True)

    @pytest.mark.parametrize(
        ("preset", "mode", "ttl"),
        [(DEVELOPMENT, "strict", None), (PRODUCTION, "strict", 3600), (PRODUCTION_CLOSED, "off", None)],
    )
    def test_presets(self, preset: SchemaPolicy, mode: str, ttl: float | None) -> None:
        """The guide's three, whole."""
        assert preset == SchemaPolicy(mode=mode, ttl=ttl)  # type: ignore[arg-type]
        assert ProductionClient(URL, config=ProductionConfig(schema=preset)).config.schema == preset

    @pytest.mark.parametrize(
        "settings",
        [
            {"mode": "sometimes"},
            {"mode": None},
            {"ttl": -1},
            {"ttl": float("nan")},
            {"ttl": float("inf")},
            {"ttl": True},
            {"ttl": "soon"},
            {"file": " "},
            {"file": 1},
            {"stale_if_error": "perhaps"},
            {"max_age": 1},
        ],
        ids=str,
    )
    def test_wrong(self, settings: dict[str, Any]) -> None:
        """Refused when it is made, by the setting's name."""
        with pytest.raises(ConfigurationError, match=next(iter(settings))):
            SchemaPolicy(**settings)
        with pytest.raises(ConfigurationError, match=rf"schema\.{next(iter(settings))}"):
            ProductionConfig(schema=settings)

    def test_environment_and_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The group has its names in the environment and its table in a file; the environment wins."""
        file = tmp_path / "client.toml"
        file.write_text(f'endpoint = "{URL}"\n[schema]\nmode = "off"\nstale_if_error = false\n', "utf-8")
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__MODE", "strict")
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__TTL", "3600")
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__FILE", "schema.graphql")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "schema.graphql").write_text("type Query { hello: String }", "utf-8")
        found = ProductionClient.from_config(file).config.schema
        assert (found.mode, found.ttl, str(found.file)) == ("strict", 3600, "schema.graphql")
        assert found.stale_if_error is False

    def test_wrong_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What cannot be is told by the variable's name, all of it at once."""
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__MODE", "never")
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__TTL", "-1")
        with pytest.raises(ConfigurationError) as caught:
            ProductionClient.from_config({"endpoint": URL})
        for name in ("2 problems", "GRAPHQL_PROD_SCHEMA__MODE", "GRAPHQL_PROD_SCHEMA__TTL"):
            assert name in str(caught.value)

    def test_shown(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """``python -m graphql_prod config`` shows the group, and where it came from."""
        monkeypatch.setenv("GRAPHQL_PROD_ENDPOINT", URL)
        monkeypatch.setenv("GRAPHQL_PROD_SCHEMA__MODE", "strict")
        assert main(["config"]) == 0
        out = capsys.readouterr().out
        assert re.search(r"schema\.mode.*strict.*GRAPHQL_PROD_SCHEMA__MODE", out)
        assert "schema.stale_if_error" in out


# How a client is made, and how it then validates.
MADE: dict[str, tuple[Callable[[str], ProductionClient], str]] = {
    "stock": (ProductionClient, "strict"),
    "validate=True": (lambda url: ProductionClient(url, validate=True), "strict"),
    "validate=False": (lambda url: ProductionClient(url, validate=False), "off"),
    "schema_ttl": (lambda url: ProductionClient(url, schema_ttl=9), "strict"),
    "config": (lambda url: ProductionClient(url, config=ProductionConfig()), "auto"),
    "config auto": (lambda url: ProductionClient(url, config=config_of(mode="auto")), "auto"),
    "config strict": (lambda url: ProductionClient(url, config=config_of(mode="strict")), "strict"),
    "config off": (lambda url: ProductionClient(url, config=config_of(mode="off")), "off"),
    "PRODUCTION_CLOSED": (
        lambda url: ProductionClient(url, config=ProductionConfig(schema=PRODUCTION_CLOSED)),
        "off",
    ),
    "config and validate=False": (
        lambda url: ProductionClient(url, validate=False, config=config_of(mode="strict")),
        "off",
    ),
    "config and schema_ttl": (
        lambda url: ProductionClient(url, schema_ttl=9, config=config_of(mode="auto")),
        "auto",
    ),
    "from_config": (lambda url: ProductionClient.from_config({"endpoint": url}), "auto"),
    "from_config strict": (
        lambda url: ProductionClient.from_config({"endpoint": url, "schema": {"mode": "strict"}}),
        "strict",
    ),
    "from_config and validate=False": (
        lambda url: ProductionClient.from_config({"endpoint": url}, validate=False),
        "off",
    ),
}
VIEWS: dict[str, tuple[str, tuple[bool | None, ...], str]] = {
    "off, on": ("off", (True,), "strict"),
    "off, on, kept": ("off", (True, None), "strict"),
    "off, on, off": ("off", (True, False), "off"),
    "off, kept": ("off", (None,), "off"),
    "auto, on": ("auto", (True,), "auto"),
    "auto, kept": ("auto", (None,), "auto"),
    "auto, off": ("auto", (False,), "off"),
    "auto, off, on": ("auto", (False, True), "auto"),
    "strict, off": ("strict", (False,), "off"),
    "strict, on": ("strict", (True,), "strict"),
}


async def mode_of(caller: ProductionClient, server: ScriptedServer) -> str:
    """How a client validates, by what it does where introspection is refused."""
    server.always(OFF, INTROSPECTION)
    async with caller:
        try:
            assert (await caller.query(HELLO)).data == HELLO_DATA
        except GraphQLIntrospectionException:
            assert asked(server) == 1
            return "strict"
    return "auto" if asked(server) else "off"


class TestMode:
    @pytest.mark.parametrize("made", MADE)
    async def test_of_a_client(self, server: ScriptedServer, made: str) -> None:
        """Without a config the stock's meaning, with one the config's; ``validate=False`` always wins."""
        make, mode = MADE[made]
        assert await mode_of(make(server.url), server) == mode

    @pytest.mark.parametrize("view", VIEWS)
    async def test_of_a_view(self, server: ScriptedServer, view: str) -> None:
        """True on a client that does not validate is strict, else as the client; False is never."""
        mode, options, found = VIEWS[view]
        caller = client_of(server.url, mode=mode)
        for validate in options:
            caller = caller.with_options(validate=validate)
        assert await mode_of(caller, server) == found

    @pytest.mark.parametrize(("mode", "validated"), [("strict", True), ("auto", True), ("off", False)])
    async def test_what_it_means(
        self, server: ScriptedServer, backend: Backend, mode: str, validated: bool
    ) -> None:
        """Validated: refused before it is sent, after one introspection. Off: sent, and none."""
        async with client_of(server.url, backend, mode=mode) as client:
            for _ in range(2):
                assert (await client.query(HELLO)).data == HELLO_DATA
                if validated:
                    with pytest.raises(GraphQLClientValidationException, match="nothing"):
                        await client.query(WRONG)
                else:
                    assert "nothing" in str((await client.query(WRONG)).errors[0])
        assert asked(server) == int(validated)
        assert (WRONG in [request.query for request in server.requests]) is not validated

    @pytest.mark.parametrize("mode", ["strict", "auto", "off"])
    async def test_a_request_that_is_not_to_be_validated(self, server: ScriptedServer, mode: str) -> None:
        """``request.validate=False`` is sent as it is, whatever client or view say, unless it is forced."""
        request = requested(WRONG, validate=False)
        async with client_of(server.url, mode=mode) as client:
            for caller in (client, client.with_options(validate=True)):
                assert (await caller.query(request)).errors
                await caller.validate(request)
            assert asked(server) == 0
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(request, force=True)
            with pytest.raises(GraphQLClientValidationException):
                await client.with_options(validate=False).validate(request, force=True)
        assert asked(server) == 1

    async def test_views_share_the_schema(self, server: ScriptedServer) -> None:
        """A view that validates on a client that does not asks once for all its like."""
        async with client_of(server.url, mode="off") as client:
            for _ in range(3):
                with pytest.raises(GraphQLClientValidationException):
                    await client.with_options(validate=True).query(WRONG)
            assert (await client.query(WRONG)).errors
        assert asked(server) == 1

    @pytest.mark.parametrize("mode", ["strict", "auto", "off"])
    async def test_a_syntax_error(self, server: ScriptedServer, mode: str) -> None:
        """Is graphql-core's own, each time; without validation it is the server that finds it."""
        async with client_of(server.url, mode=mode) as client:
            for _ in range(2):
                if mode == "off":
                    assert "Syntax Error" in str((await client.query("{ hello")).errors[0])
                else:
                    with pytest.raises(graphql.GraphQLSyntaxError, match=r"Expected Name, found <EOF>"):
                        await client.query("{ hello")
            with pytest.raises(graphql.GraphQLSyntaxError):
                await client.validate(requested("{ hello"), force=True)


class TestStockArguments:
    async def test_a_given_schema(self, server: ScriptedServer, hand: Hand) -> None:
        """Is what documents are validated against, is nobody's to refresh, and has no age."""
        async with ProductionClient(server.url, schema=OTHER, schema_ttl=1) as client:
            for _ in range(3):
                with pytest.raises(GraphQLClientValidationException, match="hello"):
                    await client.query(HELLO)
                hand.now += 100
            assert await client.get_schema() is OTHER
            assert client.stats().schema_age is None
            await a_few_rounds()
        assert server.requests == []

    async def test_a_given_schema_until_another_is_asked_for(
        self, server: ScriptedServer, hand: Hand
    ) -> None:
        """``get_schema(refresh=True)`` replaces it by the server's, which expires as any other."""
        async with ProductionClient(server.url, schema=OTHER, schema_ttl=10) as client:
            found = await client.get_schema(refresh=True)
            assert await client.get_schema() is found
            assert (await client.query(HELLO)).data == HELLO_DATA
            hand.now += 11
            await client.query(HELLO)
            await asked_so_often(server, 2)

    async def test_a_given_schema_that_was_not_replaced(self, server: ScriptedServer) -> None:
        """A refresh that fails leaves it as it was."""
        server.always(Answer.page(403), INTROSPECTION)
        async with ProductionClient(server.url, schema=OTHER) as client:
            with pytest.raises(HTTPStatusError):
                await client.get_schema(refresh=True)
            assert await client.get_schema() is OTHER

    @pytest.mark.parametrize("policy", [{}, {"file": "gone.graphql"}, {"ttl": 1}], ids=str)
    async def test_a_given_schema_beside_a_config(
        self, server: ScriptedServer, policy: dict[str, Any]
    ) -> None:
        """Wins over the config's ways to one."""
        async with client_of(server.url, objects={"schema": OTHER}, **policy) as client:
            with pytest.raises(GraphQLClientValidationException):
                await client.query(HELLO)
        assert server.requests == []

    @pytest.mark.parametrize(
        ("schema_ttl", "ttl", "asked_anew"), [(10, 1000, True), (1000, 10, False), (None, 10, True)]
    )
    async def test_a_ttl_beside_a_config(
        self,
        server: ScriptedServer,
        hand: Hand,
        schema_ttl: float | None,
        ttl: float,
        asked_anew: bool,
    ) -> None:
        """Wins over the config's; left out, the config's holds."""
        async with client_of(server.url, objects={"schema_ttl": schema_ttl}, ttl=ttl) as client:
            await client.query(HELLO)
            hand.now += 11
            for _ in range(3):
                await client.query(HELLO)
            await asked_so_often(server, 1 + asked_anew)
        assert asked(server) == 1 + asked_anew

    async def test_without_a_ttl(self, server: ScriptedServer, hand: Hand) -> None:
        """A schema is good for ever."""
        async with client_of(server.url) as client:
            for _ in range(3):
                await client.query(HELLO)
                hand.now += 1e9
        assert asked(server) == 1

    async def test_introspect(self, server: ScriptedServer, backend: Backend) -> None:
        """Asks each time, and leaves what the client knows as it is."""
        async with client_of(server.url, backend, mode="off") as client:
            first, second = await client.introspect(), await client.introspect()
            assert first is not second
            assert client.stats().schema_age is None
            assert await client.get_schema() not in (first, second)
        assert asked(server) == 3

    async def test_get_schema(self, server: ScriptedServer) -> None:
        """Asks once, also where nothing is validated; with refresh each time, for a new object."""
        async with client_of(server.url, mode="off") as client:
            first = await client.get_schema()
            assert await client.get_schema() is first
            second = await client.get_schema(refresh=True)
            assert second is not first
            assert await client.get_schema() is second
        assert asked(server) == 2

    async def test_get_schema_that_fails(self, server: ScriptedServer) -> None:
        """Raises, and what is known stays."""
        async with client_of(server.url) as client:
            first = await client.get_schema()
            server.always(Answer.page(503), INTROSPECTION)
            with pytest.raises(HTTPStatusError):
                await client.get_schema(refresh=True)
            assert await client.get_schema() is first
            assert (await client.query(HELLO)).data == HELLO_DATA

    @pytest.mark.parametrize("mode", ["strict", "auto", "off"])
    @pytest.mark.parametrize("force", [True, False])
    async def test_validate_against_a_given_schema(
        self, server: ScriptedServer, mode: str, force: bool
    ) -> None:
        """By that schema and no other, without asking anybody; off says nothing unless it is forced."""
        async with client_of(server.url, mode=mode) as client:
            await client.validate(requested("{ other }"), schema=OTHER, force=force)
            if mode == "off" and not force:
                await client.validate(requested(HELLO), schema=OTHER)
            else:
                with pytest.raises(GraphQLClientValidationException):
                    await client.validate(requested(HELLO), schema=OTHER, force=force)
        assert server.requests == []

    async def test_headers_of_validate(self, server: ScriptedServer) -> None:
        """The introspection has those given, else the request's."""
        async with client_of(server.url) as client:
            request = requested(HELLO, headers={"X-Who": "request"})
            await client.validate(request, headers={"X-Who": "call"})
        async with client_of(server.url) as client:
            await client.validate(request)
        assert [seen.headers["X-Who"] for seen in server.requests] == ["call", "request"]

    async def test_age(self, server: ScriptedServer, hand: Hand) -> None:
        """Seconds since the schema that is known was asked for; None without one."""
        async with client_of(server.url, ttl=100) as client:
            assert client.stats().schema_age is None
            await client.query(HELLO)
            assert client.stats().schema_age == 0
            hand.now += 42
            assert client.stats().schema_age == client.with_options(timeout=9).stats().schema_age == 42
            await client.get_schema(refresh=True)
            assert client.stats().schema_age == 0

    async def test_overridden_introspection(self, server: ScriptedServer) -> None:
        """A subclass that gets its schema elsewhere is asked, once, and its word is taken."""

        class Mine(ProductionClient):
            asked = 0

            async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
                Mine.asked += 1
                await asyncio.sleep(0)
                return OTHER

        async with Mine(server.url) as client:
            calls = (caller.query(HELLO) for caller in [client, client.with_options(timeout=9)] * 3)
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, GraphQLClientValidationException)
            await client.validate(requested("{ other }"))
        assert (Mine.asked, server.requests) == (1, [])

    async def test_overridden_schema(self, server: ScriptedServer) -> None:
        """So is one that overrides ``get_schema``, by client and views, with the headers of the call."""
        seen: list[Any] = []

        class Mine(ProductionClient):
            async def get_schema(
                self, refresh: bool = False, headers: dict[str, str] | None = None
            ) -> graphql.GraphQLSchema:
                seen.append((headers or {}).get("X-Who"))
                return OTHER

        async with Mine(server.url) as client:
            for caller in (client, client.with_options(timeout=9)):
                with pytest.raises(GraphQLClientValidationException):
                    await caller.query(HELLO, headers={"X-Who": "me"})
        assert (set(seen), server.requests) == ({"me"}, [])


class TestForce:
    async def test_off(self, server: ScriptedServer) -> None:
        """Validates all the same, and asks for the schema that it needs."""
        async with client_of(server.url, mode="off") as client:
            await client.validate(requested(WRONG))
            assert server.requests == []
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(requested(WRONG), force=True)
            assert (await client.query(WRONG)).errors

    async def test_refused(self, server: ScriptedServer) -> None:
        """Where the server refused, it is asked again: what it says is raised, or used."""
        server.always(OFF, INTROSPECTION)
        async with client_of(server.url, mode="auto") as client:
            await client.query(HELLO)
            for again in (
                lambda: client.validate(requested(HELLO), force=True),
                lambda: client.get_schema(),
                lambda: client.get_schema(refresh=True),
            ):
                before = asked(server)
                with pytest.raises(GraphQLIntrospectionException):
                    await again()
                assert asked(server) == before + 1
            server.always(None, INTROSPECTION)
            with pytest.raises(GraphQLClientValidationException):
                await client.validate(requested(WRONG), force=True)
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)  # there is a schema now


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
        reason = record.__dict__["reason"]
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
