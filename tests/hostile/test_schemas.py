"""Schemas of a server that means harm: bounded before they are built, refused in words, kept in mind."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientValidationException

from graphql_prod import NoSchemaError, ProductionClient, ProductionConfig, SchemaPolicy, clock
from graphql_prod.schema import bounds
from graphql_prod.testing import Answer

if TYPE_CHECKING:
    from graphql_prod.testing import ScriptedServer

BASE = graphql.introspection_from_schema(graphql.build_schema("type Query { a(x: Int): String }"))


def named(name: str, kind: str = "OBJECT") -> dict[str, Any]:
    return {"kind": kind, "name": name, "ofType": None}


def described(name: str, kind: str = "OBJECT", **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "fields": [],
        "inputFields": None,
        "interfaces": [],
        "enumValues": None,
        "possibleTypes": [],
    }
    return {"kind": kind, "name": name, **empty, **more}


def field(name: str, of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "args": [], "type": of, "isDeprecated": False, "deprecationReason": None, **more}


def wrapped(depth: int) -> dict[str, Any]:
    inner = named("String", "SCALAR")
    for _ in range(depth):
        inner = {"kind": "LIST", "name": None, "ofType": inner}
    return inner


def schema_of(*types: dict[str, Any]) -> dict[str, Any]:
    data: Any = copy.deepcopy(BASE)
    data["__schema"]["types"].extend(types)
    return {"data": data}


def too_many_types() -> dict[str, Any]:
    return schema_of(*[{"kind": "SCALAR", "name": f"T{n}"} for n in range(bounds.MOST_TYPES)])


def too_many_fields() -> dict[str, Any]:
    many = [{"name": f"f{n}"} for n in range(bounds.MOST_FIELDS)]
    return schema_of(described("Many", fields=many))


def too_much_text() -> dict[str, Any]:
    return schema_of(described("Long", description="x" * bounds.MOST_CHARACTERS))


def too_deep() -> dict[str, Any]:
    return schema_of(described("Deep", fields=[field("deep", wrapped(bounds.MOST_DEPTH))]))


def too_many_interfaces() -> dict[str, Any]:
    string = named("String", "SCALAR")
    chain = [
        described(
            f"I{n}",
            "INTERFACE",
            fields=[field("f", string)],
            interfaces=[named(f"I{m}", "INTERFACE") for m in range(n)],
        )
        for n in range(200)
    ]
    return schema_of(*chain)


def control_characters() -> dict[str, Any]:
    return schema_of(described("Evil\x1b[31m\r\nFAKE", fields=[field("a", named("String", "SCALAR"))]))


EXCESSIVE = {
    "types": (too_many_types, "over 50,000 types"),
    "fields": (too_many_fields, "over 200,000 fields"),
    "text": (too_much_text, "over 16 MiB"),
    "depth": (too_deep, "over 64 levels deep"),
    "interfaces": (too_many_interfaces, "too many interfaces"),
    "names": (control_characters, "cannot be built"),
}


@pytest.mark.parametrize("kind", EXCESSIVE)
async def test_auto_goes_on_without_it(
    server: ScriptedServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked for once, one warning says why it is not taken, and calls go on unvalidated."""
    made, words = EXCESSIVE[kind]
    server.always(Answer(body=made()), "IntrospectionQuery")
    async with ProductionClient(server.url, config=_config("auto")) as client:
        for _ in range(3):
            assert (await client.query("{ hello }")).data
    warnings = [each.getMessage() for each in caplog.records if "gives no schema" in each.getMessage()]
    assert len(warnings) == 1
    assert words in warnings[0]
    assert "\x1b" not in caplog.text
    assert _asked(server) == 1


@pytest.mark.parametrize("kind", EXCESSIVE)
async def test_strict_says_why(server: ScriptedServer, kind: str) -> None:
    """Each call fails in words, at once; the server is asked again after a while, and then all is well."""
    made, words = EXCESSIVE[kind]
    server.on("IntrospectionQuery", Answer(body=made()))
    later = Later()
    with clock.using(later):
        async with ProductionClient(server.url, config=_config("strict")) as client:
            for _ in range(3):
                with pytest.raises(NoSchemaError) as caught:
                    await client.query("{ hello }")
                assert caught.value.refused is not None
                assert words in str(caught.value.refused)
                assert "\x1b" not in str(caught.value)
                assert not caught.value.may_have_executed
            assert _asked(server) == 1
            later.by = 61.0
            assert (await client.query("{ hello }")).data


class Later(clock.Clock):
    """The time, and so many seconds more."""

    by = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.by


def _asked(server: ScriptedServer) -> int:
    return sum("__schema" in (each.query or "") for each in server.requests)


def _config(mode: Any) -> Any:
    return ProductionConfig(schema=SchemaPolicy(mode=mode))


async def test_inputs_that_require_one_another(server: ScriptedServer) -> None:
    """A chain that is too deep for the rules of schemas: documents are validated all the same."""
    chain = [
        described(
            f"I{n}",
            "INPUT_OBJECT",
            inputFields=[
                {
                    "name": "next",
                    "type": {"kind": "NON_NULL", "name": None, "ofType": named(f"I{(n + 1) % 3000}")},
                    "defaultValue": None,
                }
            ],
        )
        for n in range(3000)
    ]
    server.on("IntrospectionQuery", Answer(body=schema_of(*chain)))
    async with ProductionClient(server.url, config=_config("strict")) as client:
        await client.query("{ a }")
        with pytest.raises(GraphQLClientValidationException, match="unknown"):
            await client.query("{ unknown }")


async def test_a_document_that_is_nested_too_deeply(server: ScriptedServer) -> None:
    """A document of a user's that graphql-core cannot follow is refused in words, whatever asks for it."""
    deep = "{ a " * 5000 + "}" * 5000
    async with ProductionClient(server.url, config=_config("strict")) as client:
        kinds = (
            GraphQLClientValidationException,
            graphql.GraphQLSyntaxError,
        )  # by the version of graphql-core
        with pytest.raises(kinds, match="nested too deeply"):
            await client.query(deep)
