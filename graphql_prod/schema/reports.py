"""What the log says of the server's schema."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from graphql_prod.calls.outcomes import reason_of
from graphql_prod.calls.reasons import what_failed
from graphql_prod.errors import HTTPStatusError, NoSchemaError
from graphql_prod.runtime import logs

if TYPE_CHECKING:
    from graphql import GraphQLSchema

    from graphql_prod.schema.refusals import IntrospectionRefusal

logger: logging.Logger = logging.getLogger("graphql_prod")


def refused(host: str, error: Exception, refusal: IntrospectionRefusal, status: int | None) -> None:
    """The server gives no schema, and calls go on without."""
    reason = _answered(error, status)
    logger.warning(
        "%s gives no schema (%s; %s): calls go on unvalidated. Give schema.file, or set schema.mode",
        host,
        reason,
        refusal.value,
        extra=logs.facts(host=host, reason=reason, status=status),
    )


def stale(host: str, error: Exception, *, age: float | None, again_in: float | None) -> None:
    """The schema could not be refreshed.

    :param age: seconds since it was asked for.
    :param again_in: seconds until the next try, while the known one serves; None: it is dropped.
    """
    reason = what_failed(error, host).rstrip(".")
    logger.warning(
        "the schema of %s could not be refreshed: %s. %s",
        host,
        reason,
        "It is dropped: calls need a new one"
        if again_in is None
        else f"The known one serves; the next try follows in {again_in:.0f} s",
        extra=logs.facts(host=host, reason=reason, schema_age=age, kept=again_in is not None),
    )


def known(host: str, schema: GraphQLSchema, *, before: GraphQLSchema | None, changed: bool) -> None:
    """A schema came.

    :param before: the one that it replaces; None if there was none.
    """
    facts = logs.facts(host=host, types=len(schema.type_map))
    if not changed:
        logger.debug("the schema of %s is as before", host, extra=facts)
        return
    news = "is known" if before is None else "has changed: documents are validated anew"
    logger.info("the schema of %s %s", host, news, extra=facts)


def _answered(error: Exception, status: int | None) -> str:
    """How a server refused, without its words."""
    if isinstance(error, NoSchemaError) and error.refused is not None:
        return error.refused
    if isinstance(error, HTTPStatusError):
        return reason_of(error.status)
    if status is not None and status >= 400:
        return f"{reason_of(status)} with GraphQL errors"
    return "a GraphQL answer without a schema"
