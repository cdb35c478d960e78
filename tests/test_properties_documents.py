"""What holds for every document: no literal in telemetry, verdicts of graphql-core's, bounded memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientValidationException
from graphql import (
    GraphQLSyntaxError,
    ListValueNode,
    Node,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    Visitor,
    build_schema,
    parse,
    validate,
    visit,
)
from hypothesis import event, given, settings
from hypothesis import strategies as st

from graphql_prod.schema.validation_cache import CHARACTERS, DOCUMENTS, LruSegment, ValidationCache
from graphql_prod.schema.worker import ValidationWorker
from graphql_prod.telemetry.documents import sanitized
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


# --- no literal in telemetry ----------------------------------------------------------------------


def _object(fields: dict[str, str]) -> str:
    return "{" + " ".join(f"{name}: {value}" for name, value in fields.items()) + "}"


def _with(before: str, given: Iterable[str], after: str) -> str:
    inside = " ".join(given)
    return f"{before}{inside}{after}" if inside else ""


# What no telemetry may show, in the forms that a literal has: each is found again in a text by these words.
SECRETS = ("s3cr3t", "S3CR3T", "31415926")
literals = st.sampled_from(
    [
        '"s3cr3t"',
        '"a s3cr3t \\"quoted\\" # no comment"',
        '"\\u0073\\u00333cr3t s3cr3t"',
        '"""s3cr3t"""',
        '"""\n  a block, s3cr3t\n    with "quotes" and \\"""\n"""',
        '"}} s3cr3t {{"',
        "S3CR3T",
        "31415926",
        "-31415926",
        "31415926.5",
        "31415926e-3",
        "true",
        "false",
        "null",
        '""',
        "[]",
        "{}",
    ]
)
names = st.sampled_from(["a", "b", "user", "query", "mutation", "fragment", "on", "type", "input", "_x"])
inside = st.recursive(
    literals,
    lambda value: (
        st.lists(value, max_size=3).map(lambda parts: f"[{' '.join(parts)}]")
        | st.dictionaries(names, value, max_size=3).map(_object)
    ),
    max_leaves=6,
)
# Where variables may stand, they stand between literals.
values = inside | st.lists(inside | names.map(lambda name: f"${name}"), max_size=3).map(
    lambda parts: f"[{', '.join(parts)}]"
)


def arguments(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arguments, or none."""
    found = st.dictionaries(names, value, max_size=2)
    return found.map(lambda given: _with("(", (f"{name}: {text}" for name, text in given.items()), ")"))


def directives(value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Directives, or none."""
    one = st.tuples(names, arguments(value)).map(lambda parts: f" @{parts[0]}{parts[1]}")
    return st.lists(one, max_size=2).map("".join)


fragments = names.filter(lambda name: name != "on")
leaves = st.tuples(st.sampled_from(["", "x: "]), names, arguments(values), directives(values)).map("".join)
selections = st.recursive(
    leaves | st.tuples(fragments, directives(values)).map(lambda parts: f"...{parts[0]}{parts[1]}"),
    lambda below: (
        st.tuples(leaves, st.lists(below, min_size=1, max_size=3)).map(
            lambda parts: f"{parts[0]} {{ {' '.join(parts[1])} }}"
        )
        | st.tuples(directives(values), st.lists(below, min_size=1, max_size=2)).map(
            lambda parts: f"... on T{parts[0]} {{ {' '.join(parts[1])} }}"
        )
    ),
    max_leaves=5,
)
types = st.sampled_from(["Int", "[String!]!", "In", "ID!"])
parameters = st.lists(
    st.tuples(names, types, st.none() | inside, directives(inside)).map(
        lambda parts: f"${parts[0]}: {parts[1]}{'' if parts[2] is None else f' = {parts[2]}'}{parts[3]}"
    ),
    max_size=2,
).map(lambda given: _with("(", given, ")"))
comments = st.sampled_from(["", "# s3cr3t 31415926\n", "#\n"])
descriptions = st.sampled_from(["", '"s3cr3t" ', '"""S3CR3T\n31415926"""\n'])
executable = st.tuples(
    comments,
    descriptions,
    st.sampled_from(["query", "mutation", "subscription"]),
    names.map(lambda name: f" {name}"),
    parameters,
    directives(inside),
    selections.map(lambda found: f" {{ {found} }}\n"),
).map("".join)
extra = st.sampled_from(
    [
        "",
        "fragment a on T @b(user: 31415926) { a(b: S3CR3T) }\n",
        '"s3cr3t" type T { "s3cr3t" a("s3cr3t" b: Int = 31415926): Int @deprecated(reason: "s3cr3t") }\n',
        'enum E { "S3CR3T" A }\ninput I { a: [String] = ["s3cr3t", """S3CR3T"""] }\n',
        'extend schema @link(url: "s3cr3t")\ndirective @d(a: Int = 31415926) on FIELD\n',
    ]
)
documents = st.tuples(st.lists(executable, min_size=1, max_size=2).map("".join), extra).map("".join)


class Shape(Visitor):
    """What a document is, its literals apart."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[str] = []
        self.literals: list[object] = []

    def enter(self, node: Node, *_: Any) -> None:
        literal = isinstance(node, ValueNode) and not isinstance(
            node, VariableNode | ListValueNode | ObjectValueNode
        )
        if literal:
            self.literals.append(node.value if isinstance(node, StringValueNode) else node)
        text = getattr(node, "value", "") if node.kind == "name" else ""
        self.nodes.append("literal" if literal else f"{node.kind} {text}")


def shape_of(document: str) -> Shape:
    found = Shape()
    visit(parse(document, no_location=True), found)
    return found


@given(document=documents)
def test_no_literal_goes_through(document: str) -> None:
    """Of every literal, wherever it stands, and of every comment nothing is left but a star.

    All else is left: names, variables, types, the shape of lists and objects.
    """
    told = sanitized(document)
    assert told is not None
    for secret in SECRETS:
        assert secret not in told
    before, after = shape_of(document), shape_of(told)
    event(f"{min(len(before.literals), 9)} literals")
    assert after.literals == ["*"] * len(before.literals)
    assert after.nodes == before.nodes
    assert sanitized(told) == told


@given(
    document=documents,
    at=st.integers(0, 400),
    junk=st.sampled_from(["", "{", '"', "}", "$", "\x00", '"""']),
)
def test_a_broken_document_tells_nothing(document: str, at: int, junk: str) -> None:
    """A document spoilt anywhere is either still one, or nothing is told of it."""
    broken = document[:at] + junk + document[at + 1 :]
    told = sanitized(broken)
    try:
        whole = shape_of(broken)
    except GraphQLSyntaxError:
        assert told is None
    else:
        assert told is not None
        assert shape_of(told).literals == ["*"] * len(whole.literals)


# --- verdicts -------------------------------------------------------------------------------------

SCHEMA = build_schema(SDL)
asked = st.recursive(
    st.sampled_from(
        [
            "hello",
            "hello(name: $n)",
            "hello(name: 5)",
            "echo(value: $n)",
            "counter",
            "counter { x }",
            "nothing",
            "slow",
            "slow(seconds: 1)",
            "__typename",
            "x: hello x: counter",
            "...F",
        ]
    ),
    lambda below: (
        st.tuples(below, below).map(" ".join)
        | below.map(lambda found: f"... on Query {{ {found} }}")
        | below.map(lambda found: f"... @include(if: $b) {{ {found} }}")
    ),
    max_leaves=4,
)
heads = ["", "query ", "query A ", "query A($n: String) ", "query A($n: Int!, $b: Boolean!) ", "mutation "]
tails = ["", " fragment F on Query { hello }", " fragment F on Nothing { x ...F }", " }", " #"]
judged = st.tuples(
    st.sampled_from(heads), asked.map(lambda found: f"{{ {found} }}"), st.sampled_from(tails)
).map("".join)


@settings(max_examples=60)
@given(batch=st.lists(judged, min_size=1, max_size=4))
def test_verdicts_are_graphql_cores(batch: list[str]) -> None:
    """First from the thread and then from memory: what graphql-core says of a document, word by word."""

    async def ask() -> None:
        memory = ValidationCache(ValidationWorker(), "h")
        for document in batch * 2:
            error: Exception | None = None
            try:
                await memory.check(SCHEMA, document)
            except Exception as raised:  # noqa: BLE001 -- whatever it is, it is compared
                error = raised
            agree(error, document)

    asyncio.run(ask())


def agree(error: Exception | None, document: str) -> None:
    """Assert that an error, or none, is what graphql-core has to say of the document."""
    syntax: GraphQLSyntaxError | None = None
    try:
        expected = validate(SCHEMA, parse(document))
    except GraphQLSyntaxError as raised:
        syntax = raised
    if syntax is not None:
        event("syntax")
        assert type(error) is GraphQLSyntaxError
        told = (str(error), error.formatted, error.positions)
        assert told == (str(syntax), syntax.formatted, syntax.positions)
        return
    event("valid" if not expected else "invalid")
    if not expected:
        assert error is None
        return
    assert type(error) is GraphQLClientValidationException
    assert str(error) == str(GraphQLClientValidationException(*expected))


# --- bounded memory -------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "find", "take", "many"]),
        st.integers(0, 12),
        st.sampled_from([0, 1, 10, CHARACTERS // 3, CHARACTERS // 2, CHARACTERS, CHARACTERS + 1])
        | st.integers(0, CHARACTERS * 2),
    ),
    max_size=30,
)


class LeastRecent(OrderedDict[str, int]):
    """What a generation is to be: documents by their last use, with what they take."""

    total = 0

    def put(self, document: str, weight: int) -> None:
        self.take(document)
        self[document] = weight
        self.total += weight
        while len(self) > DOCUMENTS or self.total > CHARACTERS:
            self.total -= self.popitem(last=False)[1]

    def take(self, document: str) -> None:
        self.total -= self.pop(document, 0)


@settings(max_examples=60)
@given(steps=steps)
def test_a_generation_is_bounded(steps: list[tuple[str, int, int]]) -> None:
    """After anything: so many documents, so many characters, and those that were used last."""
    generation, model = LruSegment(), LeastRecent()
    fresh = 0
    for what, n, weight in steps:
        document = f"{{ {n} }}"
        if what == "find":
            known = (None, model[document]) if document in model else None
            assert generation.find(document) == known
            if known is not None:
                model.move_to_end(document)
        elif what == "take":
            generation.take(document)
            model.take(document)
        elif what == "put":
            generation.put(document, None, weight)
            model.put(document, weight)
        else:
            for _ in range(600):
                fresh += 1
                generation.put(f"{{ {fresh} x }}", None, n)
                model.put(f"{{ {fresh} x }}", n)
    every = [f"{{ {n} }}" for n in range(13)] + [f"{{ {n} x }}" for n in range(1, fresh + 1)]
    assert {document for document in every if generation.find(document) is not None} == set(model)


@settings(max_examples=3)
@given(hot=st.integers(1, 100), once=st.integers(1000, 2500))
def test_documents_in_use_outlive_those_seen_once(hot: int, once: int) -> None:
    """Documents that came back are known for good, however many others come once."""

    async def use() -> None:
        memory = ValidationCache(ValidationWorker(), "h")
        used = [f"{{ hello }} # hot {n}" for n in range(hot)]
        for document in used * 2:
            await memory.check(SCHEMA, document)
        cold = [f"{{ hello }} # {n}" for n in range(once)]
        for batch in range(0, once, 100):
            await asyncio.gather(*(memory.check(SCHEMA, each) for each in cold[batch : batch + 100]))
        assert all(memory.find(document) is not None for document in used)
        assert [memory.find(document) is not None for document in cold] == [
            n >= once - DOCUMENTS for n in range(once)
        ]

    asyncio.run(use())
