"""What a document would do: only what is certainly a query may be repeated as one."""

from __future__ import annotations

import sys
import weakref

import pytest

from graphql_prod.documents import is_query

QUERIES = {
    "shorthand": "{ hello }",
    "keyword": "query { hello }",
    "named": "query Greet { hello }",
    "variables": "query Greet($name: String = null) { hello(name: $name) }",
    "directives": "query Greet @cached(ttl: 60) { hello @include(if: true) @skip(if: false) }",
    "fragment first": "fragment F on Query { hello } query { ...F }",
    "fragment last": "query { ...F } fragment F on Query { hello }",
    "inline fragment": "{ ... on Query { hello } ... @include(if: true) { counter } }",
    "comment before": "# mutation { increment }\n{ hello }",
    "comment within": "{ # mutation\n hello # subscription { count }\n}",
    "comment ended by carriage return": "# mutation { increment }\r{ hello }",
    "commas are blank": ",,,query,{,hello,},",
    "byte order mark": "\ufeff{ hello }",
    "a string that says mutation": '{ echo(value: "mutation { increment }") }',
    "a block string that says mutation": '{ echo(value: """\n} mutation { increment }\n\\""" """) }',
    "a field called mutation": "query mutation { mutation: hello subscription: counter }",
    "a fragment called mutation": "query { ...mutation } fragment mutation on Query { hello }",
    "unicode in a string": '{ echo(value: "naïve 日本語 🚀 \\u{1F680}") }',
    "a type definition beside it": "type X { a: Int } query { hello }",
}

CHANGES = {
    "mutation": "mutation { increment }",
    "named mutation": "mutation Add { increment }",
    "mutation called query": "mutation query { query: increment }",
    "comment before a mutation": "# { hello }\nmutation { increment }",
    "carriage return ends the comment": "# harmless\rmutation { increment }",
    "byte order mark before a mutation": "\ufeffmutation { increment }",
    "fragment before a mutation": "fragment F on Mutation { increment } mutation { ...F }",
    "block string that looks like its end": 'mutation { a(b: """ \\""" } query { hello } """) }',
    "subscription": "subscription { count }",
    "mutation with directives": "mutation @idempotent { increment }",
}

UNDECIDED = {
    "two anonymous": "{ hello } { counter }",
    "anonymous and named": "{ hello } query B { counter }",
    "query and mutation without a name": "query A { hello } mutation B { increment }",
    "two queries without a name": "query A { hello } query B { counter }",
    "empty": "",
    "blank": " \n\t,",
    "only a comment": "# { hello }",
    "only a fragment": "fragment F on Query { hello }",
    "only types": "type Query { hello: String }",
    "syntax error": "{ hello",
    "unknown keyword": "querry { hello }",
    "keyword in capitals": "QUERY { hello }",
    "zero byte": "{ hello \x00 }",
    "lone surrogate": '{ echo(value: "\ud800") } }',
    "no-break space": "query\u00a0{ hello }",
}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Pure functions leave nothing behind; the check would cost more than these tests."""


@pytest.mark.parametrize("document", QUERIES.values(), ids=QUERIES)
def test_query(document: str) -> None:
    """A single query is one, in whatever way it is written."""
    assert is_query(document, None)


@pytest.mark.parametrize("document", CHANGES.values(), ids=CHANGES)
def test_no_query(document: str) -> None:
    """Mutations and subscriptions are never taken for a query."""
    assert not is_query(document, None)


@pytest.mark.parametrize("document", UNDECIDED.values(), ids=UNDECIDED)
def test_undecided(document: str) -> None:
    """What cannot be judged counts as a mutation."""
    assert not is_query(document, None)


@pytest.mark.parametrize(
    ("name", "judged"),
    [("Read", True), ("Write", False), ("Watch", False), ("read", False), ("Absent", False), ("F", False)],
)
def test_named(name: str, judged: bool) -> None:
    """Of several operations the one named counts; names compare exactly, fragments have none."""
    document = """
      query Read { hello ...F }
      mutation Write { increment }
      subscription Watch { count }
      fragment F on Query { counter }
    """
    assert is_query(document, name) is judged


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ("query A { hello } mutation A { increment }", "A"),
        ("mutation A { increment } query A { hello }", "A"),
        ("query A { hello } query A { counter }", "A"),
        ("{ hello }", "A"),
        ("query A { hello }", "B"),
        ("query A { hello }", ""),
    ],
)
def test_ambiguous_name(document: str, name: str) -> None:
    """A name that two operations bear, or none does, settles nothing."""
    assert not is_query(document, name)


def test_anonymous_beside_named() -> None:
    """A name settles a document even if another operation in it has none."""
    document = "{ hello } mutation Write { increment } query Read { counter }"
    assert is_query(document, "Read")
    assert not is_query(document, "Write")
    assert not is_query(document, None)


@pytest.mark.parametrize("keyword", ["query", "mutation"])
@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep(keyword: str, depth: int) -> None:
    """A document that nests too deep for the parser is undecided, not a crash."""
    limit = sys.getrecursionlimit()
    document = keyword + "{ a " * depth + "}" * depth
    assert is_query(document, None) is (keyword == "query" and depth < limit)
    assert sys.getrecursionlimit() == limit


def test_deep_values() -> None:
    """Lists within lists are as deep as selections are."""
    depth = 100_000
    assert not is_query("{ echo(value: " + "[" * depth + "]" * depth + ") }", None)


class Text(str):
    """A text of which one can see that it was forgotten."""

    __slots__ = ("__weakref__",)


def test_bounded_memory() -> None:
    """Ten thousand distinct documents (somebody pastes values into them) are not all kept."""
    alive: weakref.WeakSet[Text] = weakref.WeakSet()
    for number in range(10_000):
        document = Text(f"{{ hello(name: {number}) }}")
        alive.add(document)
        assert is_query(document, None)
    del document
    kept = sum(1 for _ in alive)
    assert kept <= 2_000
