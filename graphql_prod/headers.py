"""Header names compare without case; the stock client's dictionaries do not. And what HTTP cannot carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from multidict import CIMultiDict

from graphql_prod.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
# aiohttp and websockets carry Latin-1 beyond ASCII as UTF-8, and so do we over httpx.
_is_value = re.compile(r"[\t\x20-\x7e\xa0-\xff]*").fullmatch

# With one that is wrong, a part of the body is another request, or the request never ends.
_FRAMING = frozenset({"content-length", "transfer-encoding"})

# What the stock client sends unless told otherwise.
STOCK_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/graphql-response+json, application/json",
    "Accept-Encoding": "gzip",
}


def problems(headers: Mapping[Any, Any], taken: bool = False) -> Iterable[tuple[str, str]]:
    """What HTTP cannot carry, as names that can be shown and what is wrong with each; never a value.

    :param taken: True where the endpoint's URL holds credentials, so that ``Authorization`` is given twice.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _is_name(name):
            yield _shown(name), _wrong_name(name)
        elif name.lower() in _FRAMING:
            yield name, "is made by the HTTP library, of the body; leave it out"
        elif wrong := _wrong_value(value):
            yield name, wrong
        elif taken and name.lower() == "authorization":
            yield name, TWICE


def texts(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The same, in plain texts: libraries write a subclass (``istr``, an enumeration) each its way."""
    for name, value in headers.items():
        if type(name) is not str or type(value) is not str:
            return {str.__str__(name): str.__str__(value) for name, value in headers.items()}
    return headers


@overload
def checked(headers: None, source: str, *, taken: bool = False) -> None: ...


@overload
def checked(headers: Mapping[str, str], source: str, *, taken: bool = False) -> Mapping[str, str]: ...


def checked(headers: Any, source: str, *, taken: bool = False) -> Any:
    """The headers in plain texts, if HTTP can carry them; None stays None.

    :param source: where they come from, for the error.
    :raises ConfigurationError: naming each header that cannot be carried, and never a value.
    """
    if headers is None:
        return headers
    if not isinstance(headers, Mapping):
        wrong = type(headers).__name__
        raise ConfigurationError(f"{source} must be a mapping of texts to texts, not {wrong}")
    if found := "; ".join(f"'{name}' {wrong}" for name, wrong in problems(headers, taken)):
        raise ConfigurationError(f"{source} cannot be sent: {found}")
    return texts(headers)


TWICE = (
    "is given beside credentials in the endpoint's URL, which make an Authorization header of their own; "
    "take them out of the URL, or leave the header out"
)


def _shown(name: object) -> str:
    if not isinstance(name, str):
        return type(name).__name__
    return name.encode("unicode_escape").decode()[:60]


def _wrong_name(name: object) -> str:
    if not isinstance(name, str):
        return "is no text, as a header's name must be"
    if not name:
        return "is no name: it is empty"
    return "is no name of a header: letters, digits and !#$%&'*+-.^_`|~ are allowed"


def _wrong_value(value: object) -> str | None:
    if not isinstance(value, str):
        return f"has a value that is no string, but {type(value).__name__}"
    if _is_value(value):
        return None
    if _is_value(value.rstrip("\r\n")):
        return "has a value that ends with a line break, as secrets in files often do: strip it"
    if all(ord(character) < 0x100 for character in value):
        return "has a value with control characters"
    if any(0xD800 <= ord(character) < 0xE000 for character in value):
        return "has a value with a lone surrogate"
    return "has a value with characters beyond Latin-1"


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
