"""Schemas out of an introspection's data and out of files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from graphql import (
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    Source,
    build_ast_schema,
    build_client_schema,
    parse,
    validate_schema,
)
from graphql.validation.validate import validate_sdl

from graphql_prod.errors import CallError, ClientClosedError, ConfigurationError, NoSchemaError
from graphql_prod.schema.bounds import ExcessiveSchemaError, refuse_excess
from graphql_prod.texts.quoting import quoted, words_of

if TYPE_CHECKING:
    from pathlib import Path

    from aiographql.client import GraphQLResponse

# A file with more mistakes than these has one cause for all of them.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Built:
    """A schema to validate against.

    :ivar fingerprint: equal for schemas that say the same; None if it is not known.
    """

    schema: GraphQLSchema
    fingerprint: bytes | None


WITHOUT = "schema.mode=off (validate=False) or schema.file does without it"


def no_schema(answer: GraphQLResponse, problem: Exception, host: str) -> NoSchemaError:
    """The error for an answer that makes no schema."""
    said = words_of(answer.json) or quoted(str(problem).rstrip("."))
    if isinstance(problem, RecursionError):
        said = "it is nested too deeply"
    error = NoSchemaError(
        f"Failed to build schema from introspection data of {host}: {said}. This was the introspection, not "
        f"your query: {WITHOUT}."
    )
    if isinstance(problem, ExcessiveSchemaError):
        error.refused = str(problem)
    elif _has_schema(answer.json.get("data")):
        error.refused = "a schema that cannot be built"
    errors = answer.json.get("errors")
    found = errors if isinstance(errors, list) else []
    extensions = [each.get("extensions") for each in found if isinstance(each, dict)]
    codes = [each.get("code") for each in extensions if isinstance(each, dict)]
    error.codes = frozenset(code for code in codes if isinstance(code, str))
    return error


def _has_schema(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("__schema"), dict)


def of_introspection(error: Exception) -> Exception:
    """Let an error say whose it is, to somebody who asked for something else."""
    if isinstance(error, NoSchemaError | ConfigurationError | ClientClosedError):
        return error
    why = f"This was the introspection, not your query: {WITHOUT}."
    if not isinstance(error, CallError) or len(error.args) != 1:
        if why not in getattr(error, "__notes__", ()):
            error.add_note(why)
    elif why not in error.args[0]:
        error.args = (f"{error.args[0]} {why}",)
    return error


def introspected(data: Any) -> tuple[GraphQLSchema, bytes]:
    """The schema that an introspection's data describe, and its fingerprint; else any exception."""
    refuse_excess(data)
    schema = build_client_schema(data)
    if schema.query_type is None:
        raise TypeError("it has no query type")
    return schema, fingerprint(data)


def stamp_of(path: Path) -> object:
    """Changes when the file does; None while it cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def fingerprint(data: Any) -> bytes:
    """The same for data that describe the same schema, in whatever order the types come."""
    described = dict(data["__schema"])
    # Type by type, so that no other thread waits for long.
    types = sorted(_canonical(each) for each in described.pop("types"))
    digest = hashlib.sha256(_canonical(described))
    for each in types:
        digest.update(each)
    return digest.digest()


def fit(schema: GraphQLSchema) -> tuple[GraphQLSchema, int]:
    """A schema that documents can be validated against, and how many rules for schemas this one breaks.

    Those rules are about what a server may offer; graphql-core refuses to validate where one is broken.
    """
    try:
        flaws = len(validate_schema(schema))
    except RecursionError:  # a chain of inputs that require one another
        flaws = 1
    if not flaws:
        return schema, 0
    parts: dict[str, Any] = {**schema.to_kwargs()}
    return GraphQLSchema(**{**parts, "assume_valid": True}), flaws


def read(path: Path) -> Built:
    """The schema of a file: SDL, or an introspection's JSON.

    :raises ConfigurationError: it cannot be read, or is neither; the text names line and column.
    """
    if stamp_of(path) is not None and not path.is_file():
        raise _unusable(path, "it is no regular file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise _unusable(path, "it is not UTF-8") from None
    except (OSError, ValueError) as error:
        raise _unusable(path, f"it cannot be read: {getattr(error, 'strerror', error)}") from None
    try:
        if text.lstrip().startswith("{"):
            return _described(path, text)
        schema = _defined(path, text)
    except ConfigurationError:
        raise
    except Exception as error:
        raise _unusable(path, f"it makes no schema: {error}") from error
    if schema.query_type is None:
        raise _unusable(path, "it has no query type")
    return Built(schema, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())


def _canonical(data: Any) -> bytes:
    try:
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a character, a number of more than 64 bits
        return json.dumps(data, sort_keys=True).encode()


def _described(path: Path, text: str) -> Built:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _unusable(path, f"{where}: it is no valid JSON: {error.msg}") from None
    data = data.get("data", data)
    if not isinstance(data, dict) or not isinstance(data.get("__schema"), dict):
        raise _unusable(path, "its JSON is no introspection: there is no __schema in it")
    return Built(*introspected(data))


def _defined(path: Path, text: str) -> GraphQLSchema:
    source = Source(text, str(path))
    try:
        # A tree without locations is smaller, and stays as long as the schema does.
        return build_ast_schema(parse(source, no_location=True))
    except GraphQLSyntaxError as error:
        raise _unusable(path, _placed(error)) from None
    except TypeError as error:
        errors = validate_sdl(parse(source))
        if not errors:
            raise _unusable(path, str(error)) from None
    more = [f"and {len(errors) - SHOWN} more"] if len(errors) > SHOWN else []
    raise _unusable(path, "; ".join([*map(_placed, errors[:SHOWN]), *more]))


def _placed(error: GraphQLError) -> str:
    where = error.locations[-1] if error.locations else None
    return error.message if where is None else f"line {where.line}, column {where.column}: {error.message}"


def _unusable(path: Path, problem: str) -> ConfigurationError:
    return ConfigurationError(f"schema.file {str(path)!r} cannot be used: {problem}")
