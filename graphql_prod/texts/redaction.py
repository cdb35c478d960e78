"""Causes of errors without the secrets that a client knows: one border, crossed by failures only."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus, urlsplit

from aiographql.client import GraphQLClientException
from yarl import URL

from graphql_prod.errors import InvalidResponseError
from graphql_prod.headers import STOCK_HEADERS
from graphql_prod.urls import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Shorter values would be found everywhere.
SHORTEST = 4
# A part of a value (a cookie's, a token's after its scheme) is a secret of its own from here on.
_SHORTEST_PART = 8
_DEPTH = 16
# What everybody sends, and no secret.
_OPEN = frozenset(
    {
        *map(str.lower, STOCK_HEADERS),
        "accept-language",
        "connection",
        "content-length",
        "host",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "traceparent",
        "tracestate",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
_WORDS = frozenset({"true", "false", "none", "null"})
_BLANK = "".join(map(chr, (*range(0x21), *range(0x7F, 0xA1))))
_SCHEMES = frozenset({"apikey", "basic", "bearer", "digest", "jwt", "key", "negotiate", "token"})
# user:password@ in any URL: that of a proxy in the environment, too.
_USERINFO = re.compile(r"//[^/\s?#@'\"]*:[^/\s?#@'\"]+@")
# The query of a GET holds the document and the variables.
_QUERIES = ("?query=", "&query=")


class RedactedError(Exception):
    """Stands in the chain of causes for an exception whose text or arguments hold a secret.

    It names that exception's type; what caused that one is its own cause.
    """


class Secrets(frozenset[str]):
    """Texts that nobody may read; in a traceback with locals neither."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


def secrets_of(
    *,
    urls: Iterable[str | None] = (),
    headers: Iterable[Mapping[str, Any] | None] = (),
    payload: object = None,
) -> Secrets:
    """Texts that nobody may read in a cause.

    :param urls: endpoints and proxies: credentials and values of the query.
    :param headers: what is sent, or was.
    :param payload: the caller's part of ``connection_init``: every text in it.
    """
    found: set[str] = set()
    known = [url for url in urls if url]
    for url in known:
        found.update(_of_url(url))
    for each in headers:
        for name, value in (each or {}).items():
            if name.lower() not in _OPEN and isinstance(value, str | bytes):
                found.update(_of_value(value if isinstance(value, str) else value.decode("latin-1")))
    found.update(_texts(payload, _DEPTH))
    # What is a part of the address is in every error: a tenant's name in it hides no cause.
    public = " ".join(map(redacted, known))
    found = {
        each for each in found if len(each) >= SHORTEST and each.lower() not in _WORDS and each not in public
    }
    return Secrets(form for each in found for form in _forms(each))


def _forms(secret: str) -> set[str]:
    """A secret as it may stand in a text: itself, and as Python shows it."""
    if secret.isascii() and secret.isprintable():
        return {secret}
    raw = secret.encode("utf-8", "surrogatepass")
    return {secret, repr(secret)[1:-1], ascii(secret)[1:-1], repr(raw)[2:-1]}


def conceal(error: BaseException | None, secrets: frozenset[str]) -> None:
    """Take the secrets out of an error of ours: of what a server repeats in its text, and of its causes.

    The text of somebody else's exception stays as it is.
    """
    if error is None:
        return
    if isinstance(error, GraphQLClientException):
        args = tuple(_scrubbed(each, secrets) if isinstance(each, str) else each for each in error.args)
        with contextlib.suppress(AttributeError):  # a frozen one, of somebody's own
            error.args = args
    if isinstance(error, InvalidResponseError):
        error.excerpt = _scrubbed(error.excerpt, secrets)
    _relink(error, secrets, {id(error)})


def _scrubbed(text: str, secrets: frozenset[str]) -> str:
    """A text without them; short ones may be words of ours, and stay."""
    # The longest first: one may be a part of another.
    for secret in sorted((each for each in secrets if len(each) >= _SHORTEST_PART and each in text), key=len)[
        ::-1
    ]:
        text = text.replace(secret, "…")
    return text


def safe_cause(error: BaseException | None, secrets: frozenset[str]) -> BaseException | None:
    """The exception, or what stands for it where it holds a secret; the same for what it was caused by."""
    return _safe(error, secrets, set())


def _safe(error: BaseException | None, secrets: frozenset[str], seen: set[int]) -> BaseException | None:
    if error is None or id(error) in seen or len(seen) > _DEPTH:
        return None
    seen.add(id(error))
    if not _holds(error, secrets):
        _relink(error, secrets, seen)
        return error
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    stand_in = RedactedError(f"{name}: its text holds credentials and is not shown")
    # Without its traceback, whose frames hold the same.
    stand_in.__cause__ = _safe(error.__cause__ or error.__context__, secrets, seen)
    return stand_in


def _relink(error: BaseException, secrets: frozenset[str], seen: set[int]) -> None:
    cause, context, hidden = error.__cause__, error.__context__, error.__suppress_context__
    safe, safe_context = cause, context
    if cause is not None:
        safe = _safe(cause, secrets, seen)
    if context is cause:
        safe_context = safe
    elif context is not None and id(context) not in seen and _anywhere(context, secrets, _DEPTH):
        # It may be the caller's own affair, who called while handling it: nothing is changed in it.
        safe_context = RedactedError(
            f"{type(context).__qualname__}: its text holds credentials and is not shown"
        )
    if safe is cause and safe_context is context:
        return
    with contextlib.suppress(AttributeError):  # a frozen exception of somebody else's
        error.__cause__, error.__context__ = safe, safe_context
        error.__suppress_context__ = hidden


def _anywhere(error: BaseException | None, secrets: frozenset[str], depth: int) -> bool:
    if error is None:
        return False
    return (
        depth == 0
        or _holds(error, secrets)
        or _anywhere(error.__cause__, secrets, depth - 1)
        or (error.__context__ is not error.__cause__ and _anywhere(error.__context__, secrets, depth - 1))
    )


def _holds(error: BaseException, secrets: frozenset[str]) -> bool:
    try:
        shown = [str(error), *getattr(error, "__notes__", ())]
        shown += [each if isinstance(each, str) else repr(each) for each in error.args]
        sent = getattr(getattr(error, "request_info", None), "headers", {})
        # aiohttp keeps what it sent among the arguments: headers of the session too, that we know nothing of.
        if any(name.lower() not in _OPEN and value for name, value in sent.items()):
            return True
    except Exception:  # noqa: BLE001 -- somebody's own kind of error; what cannot be looked at is not shown
        return True
    text = "\n".join(shown)
    text += text.replace("\\\\", "\\")  # what was shown within what is shown
    if any(each in text for each in (*secrets, *_QUERIES)) or _USERINFO.search(text):
        return True
    if isinstance(error, BaseExceptionGroup):
        return any(_anywhere(each, secrets, _DEPTH) for each in error.exceptions)
    return False


def _of_url(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    found: set[str] = set()
    raw, at, _ = parts.netloc.rpartition("@")
    if at:
        name, colon, password = raw.partition(":")
        plain = f"{unquote(name)}:{unquote(password)}" if colon else unquote(name)
        found |= {raw, plain, password or name, unquote(password or name), _basic(plain)}
    if parts.query:
        found.add(parts.query)
        for pair in parts.query.split("&"):
            name, equals, value = pair.partition("=")
            value = value if equals else name
            found |= {value, unquote(value), unquote_plus(value)}
        with contextlib.suppress(ValueError):
            found.add(URL(url).raw_query_string)  # as aiohttp writes it
    return found


def _of_value(value: str) -> set[str]:
    """A header's value, and the secret parts of it."""
    value = value.strip(_BLANK)
    found = {value}
    scheme, _, token = value.partition(" ")
    if scheme.lower() in _SCHEMES:
        value = token.strip(_BLANK)
        found.add(value)
        if scheme.lower() == "basic":
            found |= _decoded(value)
    for part in re.split(r"[\x00-\x20\x7f-\xa0;,]+", value):
        found |= {each for each in (part, part.partition("=")[2]) if len(each) >= _SHORTEST_PART}
    return found


def _decoded(token: str) -> set[str]:
    try:
        plain = base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        return set()
    return {plain, plain.partition(":")[2]}


def _basic(plain: str) -> str:
    return base64.b64encode(plain.encode()).decode()


def _texts(payload: object, depth: int) -> set[str]:
    if isinstance(payload, str):
        return _of_value(payload)
    if not depth:
        return set()
    if isinstance(payload, dict):
        payload = list(payload.values())
    if isinstance(payload, list | tuple):
        return {text for each in payload for text in _texts(each, depth - 1)}
    return set()
