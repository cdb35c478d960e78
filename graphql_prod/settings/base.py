"""What all groups of settings have in common: frozen values that refuse bad input in one clear error."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from graphql_prod.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails


T = TypeVar("T", bound=Hashable)


def _no_truth(value: object) -> object:
    """Python takes True for 1; as a number of seconds or attempts it is a mistake."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")  # noqa: TRY004 -- pydantic collects ValueErrors
    return value


@contextlib.contextmanager
def a_setting_called_schema() -> Iterator[None]:
    """Lets a model have one; pydantic warns, for it has a method of that name, deprecated since version 2."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message='Field name "schema"', category=UserWarning)
        yield


Number: BeforeValidator = BeforeValidator(_no_truth)
"""Refuses True and False where a number is wanted."""

Seconds = Annotated[float, Number, Field(gt=0)]
"""A time over 0."""


def _listed(value: object) -> object:
    """A text is a list: ``429, 503`` or JSON's ``[429, 503]``, which is what an environment can hold.

    ``-`` is what the ``config`` command shows for an empty one.
    """
    if not isinstance(value, str):
        return value
    parts = (part.strip().strip("\"'") for part in value.strip().strip("[]").split(","))
    return [part for part in parts if part not in ("", "-")]


Listed = Annotated[frozenset[T], BeforeValidator(_listed)]
"""A set that may also be written as a text with commas."""


class Policy(BaseModel):
    """A frozen group of settings; unknown keys and values out of bounds are refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True
    )
    secret_keys: ClassVar[frozenset[str]] = frozenset()
    nested: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of numbers of which the first may not exceed the second."""

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            problems = list(problems_of(type(self), error))
        else:
            return
        # Not while the other one is handled: it would be this one's context, and quotes secrets.
        raise ConfigurationError(problems)

    @model_validator(mode="wrap")
    @classmethod
    def _agrees(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse named numbers that contradict one another, beside whatever else is wrong."""
        problems: list[Problem] = []
        try:
            made = handler(values)
        except ValidationError as error:
            given = values if isinstance(values, dict) else {}
            problems = list(problems_of(cls, error))
            told = {problem.key for problem in problems}
            problems += [each for each in cls._contradictions(given) if each.key not in told]
        if problems:
            raise ConfigurationError(problems)
        named = {key: getattr(made, key) for key in made.model_fields_set}
        if problems := list(cls._contradictions(named)):
            raise ConfigurationError(problems)
        made._settle()
        return made

    def _settle(self) -> None:
        """Give the settings that nobody named the values that the named ones leave them."""
        for inner, outer in self.nested:
            self._fit(inner, outer)

    @classmethod
    def _contradictions(cls, named: dict[str, Any]) -> Iterator[Problem]:
        for inner, outer in cls.nested:
            small, large = named.get(inner), named.get(outer)
            if isinstance(small, int | float) and isinstance(large, int | float) and small > large:
                yield Problem(
                    f"{inner}, {outer}",
                    f"{inner}={small} is longer than {outer}={large}; lower the first or raise the second",
                )

    def _fit(self, inner: str, outer: str) -> None:
        """Move a default that a named number leaves no room for; it stays unnamed."""
        small, large = getattr(self, inner), getattr(self, outer)
        if small is not None and large is not None and small > large:
            moved, value = (outer, small) if inner in self.model_fields_set else (inner, large)
            self.__dict__[moved] = value

    def merged_over(self, base: Self) -> Self:
        """What holds where this group names only a part, and ``base`` holds for the rest.

        What this group names counts. A number of ``base`` that is left no room by it moves as far as it must.
        """
        named = {key: getattr(self, key) for key in self.model_fields_set}
        kept = {key: getattr(base, key) for key in base.model_fields_set if key not in named}
        for inner, outer in self.nested:
            small, large = (named.get(key, kept.get(key)) for key in (inner, outer))
            if small is not None and large is not None and small > large:
                moved, value = (outer, small) if inner in named else (inner, large)
                if moved in kept:
                    kept[moved] = value
        return type(self)(**kept, **named)


def problems_of(model: type[Policy], error: ValidationError) -> Iterable[Problem]:
    """Every problem of a failed validation, nested policies' own among them."""
    for details in error.errors(include_url=False):
        yield from _problems(model, details)


def _problems(model: type[Policy], details: ErrorDetails) -> Iterator[Problem]:
    location = tuple(str(part) for part in details["loc"])
    inner = details.get("ctx", {}).get("error")
    if isinstance(inner, ConfigurationError) and inner.problems:
        for problem in inner.problems:
            yield Problem(".".join(filter(None, (*location, problem.key))), problem.message)
        return
    message = str(inner) if isinstance(inner, ConfigurationError) else details["msg"]
    unknown = details["type"] == "extra_forbidden"
    secret = not location or unknown or location[0] in model.secret_keys
    shown = "" if secret else _shown(details["input"])
    yield Problem(".".join(location), f"{_allowed(model, details, message)}{shown}")


def _allowed(model: type[Policy], details: ErrorDetails, message: str) -> str:
    if details["type"] == "extra_forbidden":
        return f"no such setting; known here: {', '.join(model.model_fields)}"
    return message.removeprefix("Value error, ")


def _shown(value: object) -> str:
    if isinstance(value, int) and not -(10**39) < value < 10**39:
        return ""  # Python refuses to write very long ones
    if isinstance(value, bool | int | float | str) and len(str(value)) <= 40:
        return f", got {value!r}"
    return ""
