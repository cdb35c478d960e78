"""What ``query()`` returns: the stock answer, and what the stock drops of the HTTP response under it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLError
from aiographql.client import GraphQLResponse as StockResponse
from multidict import CIMultiDict, CIMultiDictProxy

from graphql_prod import clock
from graphql_prod.calls.request import PreparedRequest
from graphql_prod.headers import copied
from graphql_prod.resilience.retry.retry_after import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest

_new = object.__new__
_SHOWN = 10
_ERROR_KEYS = frozenset({"message", "locations", "path", "extensions"})


@dataclass(frozen=True, eq=False, repr=False)
class GraphQLResponse(StockResponse):
    """The stock ``GraphQLResponse``, with the facts of the call that brought it.

    It equals the stock's answer of the same request and JSON. Its ``repr`` shows no header, no variable, no
    literal and no data; ``json``, ``data`` and ``errors`` are the stock's.

    :ivar status: the HTTP status; None where a ``transport=`` of the user's hides it.
    :ivar response_headers: the HTTP headers, compared without case; None where a transport hides them.
    :ivar retry_after: seconds that the server asks to wait, or None if it does not.
    :ivar attempts: attempts that the call took.
    :ivar elapsed: seconds from the beginning of the call to its answer.
    """

    status: int | None = field(default=None, kw_only=True)
    response_headers: Mapping[str, str] | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)
    attempts: int = field(default=0, kw_only=True)
    elapsed: float = field(default=0.0, kw_only=True)

    def __hash__(self) -> int:
        return StockResponse.__hash__(self)

    @property
    def errors(self) -> list[GraphQLError]:
        """As stock. Where that fails, on keys like ``class``, only the standard keys are there."""
        try:
            return super().errors
        except (TypeError, ValueError):
            known = self.json.get("errors")
            found = known if isinstance(known, list) else []
            return [GraphQLError.load(_nameable(each)) for each in found if isinstance(each, dict)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StockResponse):
            return NotImplemented
        return self.request == other.request and self.json == other.json

    def __repr__(self) -> str:
        return (
            f"<GraphQLResponse status={self.status} {outline(self.json)} "
            f"attempts={self.attempts} elapsed={self.elapsed:.3f}>"
        )


def _nameable(error: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in error.items() if key in _ERROR_KEYS}


def outline(json: Any) -> str:
    """What an answer consists of, for a ``repr``: names of fields and a count, nothing of the content."""
    if not isinstance(json, dict):
        return f"json={type(json).__name__}"
    data, errors = json.get("data"), json.get("errors")
    if isinstance(data, dict):
        names = [name for name in data if isinstance(name, str) and name.isidentifier()][:_SHOWN]
        shown = f"[{', '.join(name[:64] for name in names)}{', …' if len(data) > len(names) else ''}]"
    else:
        shown = "None" if data is None else type(data).__name__
    return f"data={shown} errors={len(errors) if isinstance(errors, list) else 0}"


def response_of(request: GraphQLRequest, json: Any) -> StockResponse:
    """The stock's answer, made without its constructor: that goes through three more frames."""
    made = _new(StockResponse)
    facts = made.__dict__
    # The stock copies the request; ours cannot be changed by who made it, and is nobody else's.
    facts["request"] = request if type(request) is PreparedRequest else request.copy()
    facts["json"] = json if isinstance(json, dict) else {}
    return made


def answered(
    response: StockResponse,
    status: int | None,
    headers: Mapping[str, str],
    attempts: int,
    started: float,
    wait: float | None = None,
) -> GraphQLResponse:
    """The answer of a transport, as one of ours; nothing of its JSON is copied.

    A response type of somebody's own stays what it is.

    :param started: when the call began, on the clock in use.
    :param wait: seconds until the server allows another call, where it says so other than by ``Retry-After``.
    """
    if type(response) is not StockResponse and type(response) is not GraphQLResponse:
        return response  # type: ignore[return-value]
    # Not by the constructor, which goes through three more frames and copies the request. Every call is here.
    made = _new(GraphQLResponse)
    facts = made.__dict__
    facts.update(response.__dict__)
    facts["status"], facts["attempts"] = status, attempts
    facts["elapsed"] = clock.monotonic() - started
    if status is None:
        facts["response_headers"], facts["retry_after"] = None, wait
        return made
    kept = CIMultiDict(headers) if type(headers) is CIMultiDictProxy else copied(headers)
    facts["response_headers"] = kept
    facts["retry_after"] = retry_after(kept) if wait is None and "Retry-After" in kept else wait
    return made
