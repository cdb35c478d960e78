"""Whether a server refuses to be introspected, or is merely not able to answer now."""

from __future__ import annotations

import enum

from aiographql.client import GraphQLRequestException

from graphql_prod.calls.outcomes import has_code
from graphql_prod.errors import HTTPStatusError, NoSchemaError

# Statuses below 500 that say nothing about introspection: too late, too early, too often.
_PASSING = frozenset({408, 425, 429})
_UNAUTHORIZED = 401
# What servers say of a mishap of their own in an answer with status 200.
_MISHAPS = frozenset({"INTERNAL_SERVER_ERROR"})


class IntrospectionRefusal(enum.Enum):
    """What a server's refusal is worth."""

    FOR_GOOD = "introspection is off"
    NOT_TAKEN = "what came is not taken"
    FOR_NOW = "the credentials, or a mishap of the server, may be the reason"


def refusal_of(
    error: BaseException, status: int | None, auth_codes: frozenset[str]
) -> IntrospectionRefusal | None:
    """What a failed introspection says about introspection; None if nothing: the server is down.

    :param status: of the last answer, or None where a transport hides it.
    """
    if isinstance(error, HTTPStatusError):
        status = error.status
        if not 400 <= status < 500 or status in _PASSING:
            return None
        refused = status == _UNAUTHORIZED or has_code(error.response.json, auth_codes)
        return IntrospectionRefusal.FOR_NOW if refused else IntrospectionRefusal.FOR_GOOD
    if type(error) is GraphQLRequestException and isinstance(error.response.json.get("errors"), list):
        return (
            IntrospectionRefusal.FOR_NOW
        )  # somebody's transport hides the status: it may be a server that is down
    if not isinstance(error, NoSchemaError) or (status is not None and status >= 500) or status in _PASSING:
        return None
    if error.refused is not None:
        return IntrospectionRefusal.NOT_TAKEN
    passing = status == _UNAUTHORIZED or error.codes & (_MISHAPS | auth_codes)
    return IntrospectionRefusal.FOR_NOW if passing else IntrospectionRefusal.FOR_GOOD
