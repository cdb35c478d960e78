"""What all groups of settings have in common: frozen values that refuse bad input in one clear error."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from graphql_prod.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails


T = TypeVar("T", bound=Hashable)


def _listed(value: object) -> object:
    """A text is a list: ``429, 503`` or JSON's ``[429, 503]``, which is what an environment can hold."""
    if not isinstance(value, str):
        return value
    parts = (part.strip().strip("\"'") for part in value.strip().strip("[]").split(","))
    return [part for part in parts if part]


Listed = Annotated[frozenset[T], BeforeValidator(_listed)]
"""A set that may also be written as a text with commas."""


class Policy(BaseModel):
    """A frozen group of settings; unknown keys and values out of bounds are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    secret_keys: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigurationError(problems_of(type(self), error)) from None

    def clamp(self, **values: Any) -> None:
        """Set defaults that a named value does not leave room for; they stay unnamed."""
        for key, value in values.items():
            self.__dict__[key] = value


def problems_of(
    model: type[Policy], error: ValidationError, prefix: tuple[str, ...] = ()
) -> Iterable[Problem]:
    """Every problem of a failed validation, nested policies' own among them."""
    for details in error.errors(include_url=False):
        yield from _problems(model, details, prefix)


def _problems(model: type[Policy], details: ErrorDetails, prefix: tuple[str, ...]) -> Iterator[Problem]:
    location = (*prefix, *(str(part) for part in details["loc"]))
    inner = details.get("ctx", {}).get("error")
    if isinstance(inner, ConfigurationError) and inner.problems:
        for problem in inner.problems:
            yield Problem(".".join((*location, problem.key)).strip("."), problem.message)
        return
    message = str(inner) if isinstance(inner, ConfigurationError) else details["msg"]
    secret = not location or location[0] in model.secret_keys
    shown = "" if secret else _shown(details["input"])
    yield Problem(".".join(location) or model.__name__, f"{_allowed(model, details, message)}{shown}")


def _allowed(model: type[Policy], details: ErrorDetails, message: str) -> str:
    if details["type"] == "extra_forbidden":
        return f"no such setting; known here: {', '.join(model.model_fields)}"
    return message.removeprefix("Value error, ")


def _shown(value: object) -> str:
    if isinstance(value, bool | int | float | str) and len(str(value)) <= 40:
        return f", got {value!r}"
    return ""
