"""The settings of validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from graphql_prod.settings.base import Number, Policy


def _named(value: object) -> object:
    if isinstance(value, str | Path) and not str(value).strip():
        raise ValueError("must name a file")
    return value


class SchemaPolicy(Policy):
    """Whether documents are validated before they are sent, and against what.

    :param mode: ``"strict"``: always; a call fails when there is no schema. ``"auto"``: where the server lets
        itself be introspected; where it refuses that is logged once and calls go on unvalidated. ``"off"``:
        not at all.
    :param ttl: seconds for which a schema is good; then the next call begins a refresh in the background,
        while the known schema serves. None means for ever.
    :param file: SDL (``.graphql``) or the JSON of an introspection, to validate against without asking the
        server; after ``ttl`` it is read again if it has changed. None means introspection.
    :param stale_if_error: True keeps a known schema when its refresh fails; False lets calls fail until there
        is a new one.
    """

    mode: Literal["auto", "strict", "off"] = "auto"
    ttl: Annotated[float, Number, Field(ge=0)] | None = None
    file: Annotated[Path, BeforeValidator(_named)] | None = None
    stale_if_error: bool = True

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            mode: Literal["auto", "strict", "off"] = "auto",
            ttl: float | None = None,
            file: str | Path | None = None,
            stale_if_error: bool = True,
        ) -> None: ...


DEVELOPMENT = SchemaPolicy(mode="strict")
"""A schema that is asked for once: mistakes in documents are found before they are sent."""

PRODUCTION = SchemaPolicy(mode="strict", ttl=3600.0)
"""Asked for anew each hour, as the stock client's production guide has it."""

PRODUCTION_CLOSED = SchemaPolicy(mode="off")
"""For servers that refuse introspection."""
