"""Settings of the schema, its modes, and the stock arguments beside them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import (
    GraphQLClientValidationException,
    GraphQLIntrospectionException,
)
from schema_policies_of import OFF, URL, config_of
from schema_world import (
    HELLO,
    HELLO_DATA,
    INTROSPECTION,
    WRONG,
    Hand,
    a_few_rounds,
    asked,
    asked_so_often,
    client_of,
    requested,
)

from graphql_prod import (
    DEVELOPMENT,
    PRODUCTION,
    PRODUCTION_CLOSED,
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    SchemaPolicy,
)
from graphql_prod.__main__ import main
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from schema_world import Backend

OTHER = graphql.build_schema("type Query { other: Int }")


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
