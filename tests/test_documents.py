"""What a document would do: only what is certainly a query may be repeated as one."""

from __future__ import annotations

import sys
import weakref

import pytest

from graphql_prod.documents import LONGEST_PARSED, is_query, operations

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
@pytest.mark.parametrize("depth", [100, 1500, 100_000])
def test_deep(keyword: str, depth: int) -> None:
    """A document that nests too deep for the parser is no crash: a long one is judged without it."""
    limit = sys.getrecursionlimit()
    document = keyword + "{ a " * depth + "}" * depth
    assert is_query(document, None) is (keyword == "query" and depth != 1500)
    assert sys.getrecursionlimit() == limit


def test_deep_values() -> None:
    """Lists within lists are as deep as selections are."""
    depth = 4000
    assert not is_query("{ echo(value: " + "[" * depth + "]" * depth + ") }", None)


PAD = "#" + "x" * LONGEST_PARSED


@pytest.mark.parametrize("document", [*QUERIES.values(), *CHANGES.values(), *UNDECIDED.values()])
@pytest.mark.parametrize("pad", [f"{PAD}\n{{}}", f"{{}}\n{PAD}"], ids=["before", "after"])
def test_long(document: str, pad: str) -> None:
    """A long one, which is not parsed, is judged as the parser would have judged it, or not at all."""
    long = pad.format(document)
    if "type " in document:
        assert operations(long) is None
    elif document not in (UNDECIDED["syntax error"], UNDECIDED["zero byte"]):
        assert (operations(long) or ()) == (operations(document) or ())
        assert is_query(long, None) is is_query(document, None)


@pytest.mark.parametrize(
    "document",
    [
        "query A { a } mutation B { b }",
        'query A($x: I = {y: "}"}, $z: [I!]! = [{y: 1}]) @d(a: {b: [{c: "mutation {"}]}) { a(x: {y: "{"}) }',
        r'mutation { a(t: """ } query { \""" " "" """) } query B { b }',
        "fragment F on T @d(a: 1) { x } query # mutation\n A # }\n @d { ...F }",
        'subscription S($q: String = "#") { s } # {',
    ],
)
def test_long_and_entangled(document: str) -> None:
    """Braces in strings, defaults, directives and comments are none."""
    assert operations(f"{document}\n{PAD}") == operations(document)
    assert operations(document)


@pytest.mark.parametrize("broken", ["{ a } }", "{ a", 'query { a(x: "b) }', "query Q R { a }", "{ a } x"])
def test_long_and_broken(broken: str) -> None:
    """What is no document is undecided."""
    assert operations(f"{broken}\n{PAD}") is None


def test_a_long_one_is_not_parsed() -> None:
    """What a parser refuses in the midst of it is not seen: the event loop has no second for that."""
    assert operations("query Q { a(: ) }") is None
    assert operations("query Q { a(: ) }" + PAD) == (("query", "Q"),)


class Text(str):
    """A text of which one can see that it was forgotten."""

    __slots__ = ("__weakref__",)


def test_long_texts_are_not_kept() -> None:
    """Of a document over 1,000 characters only a digest stays."""
    alive: weakref.WeakSet[Text] = weakref.WeakSet()
    document = Text("{ hello(name: 1) }" + " " * 1000)
    alive.add(document)
    assert is_query(document, None)
    del document
    assert not list(alive)


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
