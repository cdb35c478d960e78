"""JSON that is small and huge, and JSON at the edges of what parsers take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from bombing import ALL, LIMIT, MIB, OWNED, Victim, answer, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from raw_http import Kind

HUGE = {
    "lists": b"[],",
    "objects": b"{},",
    "pairs": b'{"a":1},',
    "numbers": b"1,",
    "spaces": b"[] ,\n",
    "texts": b'"",',
}
DEEP = {"[": b"]", '{"a":': b"}"}


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """The client."""
    with Victim() as running:
        yield running


def listed(part: bytes, size: int) -> bytes:
    return b'{"data":{"hello":[' + part * (size // len(part)) + b"1]}}"


@pytest.mark.parametrize("kind", OWNED)
@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("wrapped", [True, False], ids=["gzip", "plain"])
async def test_more_values_than_the_limit_are_not_parsed(
    victim: Victim, kind: Kind, name: str, wrapped: bool
) -> None:
    """A text within ``max_response_bytes`` that would be gigabytes of objects is refused by its values."""
    body = listed(HUGE[name], 48 * MIB)
    said = answer(zipped(body), "Content-Encoding: gzip") if wrapped else answer(body)
    told = await victim.calls(kind, said)
    told.refused("max_response_values", "Ask for less")
    assert told.error == "TransportError"
    told.within(160)  # the text, and the pieces that it came in


@pytest.mark.parametrize("kind", OWNED)
async def test_values_of_an_error_page_count_too(victim: Victim, kind: Kind) -> None:
    """The stock parses it, whatever the status."""
    told = await victim.calls(kind, answer(listed(b"[],", 32 * MIB), status="500 Oops"))
    told.refused("max_response_values")
    told.within(128)


@pytest.mark.parametrize("kind", OWNED)
@pytest.mark.parametrize(("size", "refused"), [(LIMIT + 100_000, True), (LIMIT - 100_000, False)])
async def test_small_answers_are_not_counted(victim: Victim, kind: Kind, size: int, refused: bool) -> None:
    """Up to 1 MiB an answer is what it is, whatever the limit."""
    told = await victim.calls(kind, answer(listed(b"1,", size)), config={"max_response_values": 10_000})
    assert ("max_response_values" in told.text) == refused, told


@pytest.mark.parametrize("kind", OWNED)
@pytest.mark.parametrize("limit", [None, 2_000_000])
async def test_what_is_within_the_limit_is_read(victim: Victim, kind: Kind, limit: int | None) -> None:
    """None is no limit."""
    told = await victim.calls(kind, answer(listed(b"1,", 3_000_000)), config={"max_response_values": limit})
    assert told.error is None, told
    assert told.size > 1_000_000


@pytest.mark.parametrize("kind", ALL)
async def test_a_large_text_is_no_bomb(victim: Victim, kind: Kind) -> None:
    """30 MiB in one text are read: the stock's GraphQL answers may have a file in them."""
    told = await victim.calls(kind, answer(b'{"data":{"hello":"%s"}}' % (b"x" * 30 * MIB)))
    assert told.size == 30 * MIB, told
    told.within(300)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("opening", DEEP)
@pytest.mark.parametrize("depth", [100, 1000, 100_000, 4_000_000])
@pytest.mark.parametrize("closed", [True, False])
async def test_depth(victim: Victim, kind: Kind, opening: str, depth: int, closed: bool) -> None:
    """Nested a hundred deep it is an answer; too deep for parsers it is refused, and nothing overflows."""
    inside = opening.encode() * depth + b"1" + (DEEP[opening] * depth if closed else b"")
    told = await victim.calls(kind, answer(b'{"data":{"hello":%s}}' % inside))
    if depth == 100 and closed:
        assert told.error is None, told
    if not closed or depth > 1000:
        told.refused("max_response_values" if "max_response_values" in told.text else "JSON")
    told.within(300)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "number",
    [
        b"1e999999",
        b"-1e999999",
        b"1e-999999",
        b"1" + b"0" * 100_000,
        b"-" + b"9" * 100_000,
        b"0." + b"1" * 1_000_000,
        b"1e" + b"9" * 1_000_000,
        b"9" * 4300,
        b"NaN",
    ],
    ids=["huge", "minus huge", "tiny", "100,000 digits", "nines", "long", "exponent", "just", "NaN"],
)
async def test_numbers(victim: Victim, kind: Kind, number: bytes) -> None:
    """A number that no machine has is a number or a refusal in our words, in a moment."""
    told = await victim.calls(kind, answer(b'{"data":{"hello":%s}}' % number))
    if told.error is not None:
        told.refused("JSON")
    told.within(64)


ODDITIES: dict[str, tuple[bytes, Any]] = {
    "one key, twice": (b'{"data":{"hello":"first","hello":"second"}}', 6),
    "data, twice": (b'{"data":{"hello":"first"},"data":{"hello":"second"}}', 6),
    "a million equal keys": (b'{"data":{"hello":"w",%s"x":1}}' % (b'"x":1,' * 150_000), 1),
    "a hundred thousand keys": (
        b'{"data":{"hello":"w",%s}}' % b",".join(b'"x%d":1' % each for each in range(100_000)),
        1,
    ),
    "a key of a megabyte": (b'{"data":{"hello":"w","%s":1}}' % (b"k" * 1_000_000), 1),
    "escapes": (b'{"data":{"hello":"%s"}}' % (b"\\u0041" * 100_000), 100_000),
    "half a surrogate pair": (b'{"data":{"hello":"%s"}}' % (b"\\ud83d" * 1000), 1000),
    "controls": (b'{"data":{"hello":"\\u0000\\u001b[31m"}}', 6),
    "errors by the hundred thousand": (
        b'{"data":{"hello":"w"},"errors":[%s{"message":"x"}]}' % (b'{"message":"x"},' * 60_000),
        1,
    ),
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", ODDITIES)
async def test_oddities(victim: Victim, kind: Kind, name: str) -> None:
    """Odd JSON is JSON: it is read as the parsers of this world read it, the last of two keys counts."""
    body, size = ODDITIES[name]
    told = await victim.calls(kind, answer(body))
    assert told.size == size, told
    told.within(200)
