"""Which refusals a renewal of credentials did not help with: it is not asked for again while that is fresh.

One field that is always refused must not send every query twice and storm whoever issues tokens. But a token
may expire right after a renewal that did not help that field. So refusals are told apart: by the fields that
were refused, or, where the whole answer was, by its document.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from graphql_prod import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Kind = Literal["field", "answer", "status", "socket"]

# Refused before anything was looked at in particular.
WHOLE: tuple[Kind, ...] = ("answer", "status")

# The contract's figure.
FRESH = 30.0
# Renewals in vain within that time, for whatever reasons of one kind; further reasons get none. Counted apart
# are documents that were answered and are refused now: that may be an expiry, whatever else is refused.
IN_VAIN = 3
# Of an answer, so many errors are looked at.
ERRORS = 20
# Reasons that are remembered.
REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class CredentialsRefusal:
    """What was refused.

    :ivar reasons: hashes; of fields, of a document, or of how a socket was closed.
    :ivar document: a hash of the document that was refused.
    """

    kind: Kind
    reasons: frozenset[int]
    document: int = 0


def of_status(query: str, name: str | None) -> CredentialsRefusal:
    """A request that was refused with 401."""
    return CredentialsRefusal("status", frozenset({hash(("status", query, name))}), hash((query, name)))


def of_socket(*how: object) -> CredentialsRefusal:
    """A connection that was refused, or ended, with a close code or a status."""
    return CredentialsRefusal("socket", frozenset({hash(("socket", *how))}))


def of_errors(errors: Iterable[dict[str, Any]], query: str, name: str | None) -> CredentialsRefusal:
    """An answer with errors that refuse: single fields, where each of them has a path."""
    fields, document = set(), hash((query, name))
    for error in islice(errors, ERRORS):
        path = error.get("path")
        if not isinstance(path, list) or not path:
            return CredentialsRefusal("answer", frozenset({hash(("answer", query, name))}), document)
        # Without the places in lists: the same field of the next item is refused for the same reason.
        fields.add(hash(("field", *(str(part) for part in path if not isinstance(part, int)))))
    return CredentialsRefusal("field", frozenset(fields), document)


class Renewals:
    """What renewals did not help with, for the last 30 seconds.

    Scopes keep users apart whose credentials one provider gives: a token that is dead for one says nothing of
    another's. An async provider has one scope, None.

    :ivar watching: whether :meth:`answered` wants to know. False most of the time: a call pays for no more.
    """

    __slots__ = ("_answered", "_dead", "_in_vain", "_origins", "_since", "_until", "watching")

    def __init__(self) -> None:
        self.watching: bool = False
        self._since = 0.0
        """When there was a renewal, or something that one did not help with."""
        self._answered: dict[tuple[int | None, int], int] = {}
        """Documents that were answered since, and with credentials of which generation."""
        self._until: dict[tuple[int | None, int], float] = {}
        """Reasons that renewals did not help with."""
        self._dead: dict[tuple[int | None, Kind], float] = {}
        """Credentials with which nothing was answered since a whole answer was refused in vain."""
        self._in_vain: dict[tuple[int | None, Kind, bool, int], float] = {}
        """Renewals in vain, by whether the document had been answered, and by their generation."""
        self._origins: dict[int, int] = {}

    def scope_of(self, headers: Mapping[str, str]) -> int:
        """Whose headers they are: a hash of them, or of those that they came to replace."""
        own = hash(frozenset(headers.items()))
        return self._origins.get(own, own)

    def replaced(self, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        """A user's headers were renewed: what did not help is known of the new ones too."""
        origin, own = self.scope_of(old), hash(frozenset(new.items()))
        if own != origin:
            _remember(self._origins, own, origin)

    def begun(self) -> None:
        """There is a renewal."""
        self.watching, self._since = True, clock.monotonic()

    def answered(self, query: str, name: str | None, generation: int, scope: int | None) -> None:
        """A document was answered without errors."""
        if clock.monotonic() - self._since > FRESH:
            self.watching = False
            self._answered.clear()
            return
        for kind in WHOLE:
            self._dead.pop((scope, kind), None)
        key = (scope, hash((query, name)))
        _remember(self._answered, key, max(generation, self._answered.get(key, 0)))

    def may_help(self, refusal: CredentialsRefusal, scope: int | None) -> bool:
        """Whether it is worth asking for a renewal."""
        now, kind = clock.monotonic(), refusal.kind
        if all(self._until.get((scope, reason), now) > now for reason in refusal.reasons):
            return False
        if self._dead.get((scope, kind), now) > now:
            return False
        alike = (scope, kind, self._was_answered(refusal, scope))
        vain = [until for key, until in self._in_vain.items() if key[:3] == alike]
        return sum(until > now for until in vain) < IN_VAIN

    def did_not_help(self, refusal: CredentialsRefusal, generation: int, scope: int | None) -> None:
        """What was refused was refused again after a renewal.

        :param generation: which renewal it was.
        """
        self.begun()
        until = self._since + FRESH
        alike = (scope, refusal.kind, self._was_answered(refusal, scope))
        _remember(self._in_vain, (*alike, generation), until)
        if self._answered.get((scope, refusal.document), -1) >= generation:
            return  # it did help, for a moment
        for reason in refusal.reasons:
            _remember(self._until, (scope, reason), until)
        if refusal.kind in WHOLE:
            _remember(self._dead, (scope, refusal.kind), until)

    def _was_answered(self, refusal: CredentialsRefusal, scope: int | None) -> bool:
        return (scope, refusal.document) in self._answered


def _remember(known: dict[Any, Any], key: object, value: float) -> None:
    known.pop(key, None)  # the oldest one comes first
    known[key] = value
    while len(known) > REMEMBERED:
        del known[next(iter(known))]
