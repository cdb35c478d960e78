"""Header names compare without case; the stock client's dictionaries do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What the stock client sends unless told otherwise.
STOCK_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/graphql-response+json, application/json",
    "Accept-Encoding": "gzip",
}


def spellings(names: Iterable[str]) -> dict[str, str]:
    """How each header is spelt, by its name in lower case."""
    return {name.lower(): name for name in names}


def aligned(headers: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The headers, with every name that is known spelt as it is known: so one replaces the other.

    Of two spellings in the headers themselves the last one counts.
    """
    own = spellings(headers)
    known = names if len(own) == len(headers) else {**own, **names}
    return {known.get(name.lower(), name): value for name, value in headers.items()}


def layered(under: Mapping[str, Any], over: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """One level of headers over another, spelt as they are known."""
    if not under:
        return aligned(over, names)
    under = aligned(under, names)
    return {**under, **aligned(over, {**spellings(under), **names})}


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both sets of headers; where they name the same one, in whatever spelling, ``over`` counts."""
    merged: dict[str, Any] = {}
    for name, value in (*under.items(), *over.items()):
        merged[spellings([*STOCK_HEADERS, *merged]).get(name.lower(), name)] = value
    return merged


def provided(fresh: Mapping[str, str], sent: Mapping[str, str], static: Mapping[str, str]) -> dict[str, str]:
    """The provider's headers, less those that the call itself has set to something else than the client."""
    return {
        name: value
        for name, value in aligned(fresh, spellings(sent)).items()
        if name not in sent or sent[name] == static.get(name)
    }


def copied(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Headers of any library's, repeated ones too, as one kind that can be copied and pickled."""
    # httpx and websockets each have a name of their own for the pairs as they came; their items() is not it.
    pairs = getattr(headers, "multi_items", None) or getattr(headers, "raw_items", None)
    return CIMultiDict(headers if pairs is None else pairs())
