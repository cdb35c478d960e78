"""How much schema is taken from a server: looked at before one is made, for a thread cannot be stopped."""

from __future__ import annotations

from typing import Any

# Of text, as it was sent without white space. The largest public schemas have 5 to 10 MiB.
MOST_CHARACTERS = 16 * 1024 * 1024
MOST_VALUES = 4_000_000
MOST_TYPES = 50_000
# Fields, arguments, values of enums, interfaces and members, of all types together.
MOST_FIELDS = 200_000
# Objects within objects; each NON_NULL or LIST around a type is one.
MOST_DEPTH = 64
# What is compared to see whether types implement their interfaces grows with the product of both.
MOST_COMPARISONS = 1_000_000

_MEMBERS = ("fields", "inputFields", "enumValues", "interfaces", "possibleTypes")


class ExcessiveSchemaError(Exception):
    """A schema is over one of the limits; the text names it, and quotes nothing."""


def refuse_excess(data: Any) -> None:
    """Nothing for an introspection's data that a schema may be made of, well-formed or not.

    :raises ExcessiveSchemaError: it is too large.
    """
    types = _listed(data, "__schema", "types")
    if len(types) > MOST_TYPES:
        raise ExcessiveSchemaError(f"a schema of over {MOST_TYPES:,} types")
    _measure(data)
    members = 0
    for each in types:
        members += sum(len(_listed(each, name)) for name in _MEMBERS)
        members += sum(len(_listed(field, "args")) for field in _listed(each, "fields"))
    if members > MOST_FIELDS:
        raise ExcessiveSchemaError(f"a schema of over {MOST_FIELDS:,} fields, arguments and values")
    _compare(types)


def _measure(data: Any) -> None:
    characters = values = depth = 0
    level = [data]
    while level:
        values += len(level)
        below: list[Any] = []
        for each in level:
            if isinstance(each, str):
                characters += len(each) + 3
            elif isinstance(each, dict):
                characters += sum(map(len, each)) + 4 * len(each)
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
            else:
                characters += 5
        if characters > MOST_CHARACTERS or values > MOST_VALUES:
            raise ExcessiveSchemaError(f"a schema of over {MOST_CHARACTERS // 2**20} MiB")
        if (depth := depth + 1) > MOST_DEPTH:
            raise ExcessiveSchemaError(f"a schema nested over {MOST_DEPTH} levels deep")
        level = below


def _compare(types: list[Any]) -> None:
    sizes: dict[str, int] = {}
    for each in types:
        if isinstance(each, dict) and isinstance(each.get("name"), str):
            fields = _listed(each, "fields")
            arguments = sum(len(_listed(field, "args")) for field in fields)
            sizes[each["name"]] = len(fields) + arguments + len(_listed(each, "interfaces"))
    comparisons = 0
    for each in types:
        for interface in _listed(each, "interfaces"):
            name = interface.get("name") if isinstance(interface, dict) else None
            comparisons += sizes.get(name, 0) if isinstance(name, str) else 0
    if comparisons > MOST_COMPARISONS:
        raise ExcessiveSchemaError("a schema of too many types that implement too many interfaces")


def _listed(data: Any, *path: str) -> list[Any]:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data if isinstance(data, list) else []
