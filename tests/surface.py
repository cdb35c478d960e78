"""The public surface, as data: names, signatures, settings, fields.

python tests/surface.py > tests/data/public_surface.json   # when a change of it is meant
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
import sys
from typing import Any

from pydantic import BaseModel

MODULES = (
    "graphql_prod",
    "graphql_prod.testing",
    "graphql_prod.integrations.starlette",
    "graphql_prod.integrations.aiohttp_web",
)
# What differs from run to run, or with the place of a definition.
_NOISE = re.compile(r" at 0x[0-9a-f]+|\b(?:graphql_prod|typing|pathlib|tenacity)\.(?:[a-z_]+\.)*")
_SET = re.compile(r"frozenset\(\{([^{}]*)\}\)")


def surface() -> dict[str, Any]:
    """Every public name of every public module."""
    found: dict[str, Any] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        names = getattr(module, "__all__", None) or [
            each for each, value in vars(module).items() if _is_own(each, value, name)
        ]
        for each in sorted(names):
            found[f"{name}.{each}"] = _described(getattr(module, each))
    return found


def _is_own(name: str, value: object, module: str) -> bool:
    return not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module


def _described(value: Any) -> Any:
    if inspect.isclass(value):
        return _class(value)
    if callable(value):
        return _signature(value)
    return _shown(value)


def _class(kind: type[Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"bases": [base.__name__ for base in kind.__mro__[1:] if base is not object]}
    if issubclass(kind, BaseModel):
        described["settings"] = {
            name: [_plain(str(field.annotation)), _shown(field.get_default(call_default_factory=True))]
            for name, field in kind.model_fields.items()
        }
    elif dataclasses.is_dataclass(kind):
        described["fields"] = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    described["annotations"] = {
        name: str(each) for name, each in vars(kind).get("__annotations__", {}).items() if name[0] != "_"
    }
    for name, member in sorted(vars(kind).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, property):
            described[name] = f"property -> {member.fget and member.fget.__annotations__.get('return')}"
        elif isinstance(member, classmethod | staticmethod):
            described[name] = f"{type(member).__name__} {_signature(member.__func__)}"
        elif inspect.isfunction(member):
            described[name] = _signature(member)
    return described


def _signature(function: Any) -> str:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "?"
    parts = []
    for each in signature.parameters.values():
        default = "" if each.default is each.empty else f" = {_shown(each.default)}"
        annotation = "" if each.annotation is each.empty else f": {each.annotation}"
        parts.append(f"{each.kind.name.lower()} {each.name}{annotation}{default}")
    returned = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    return f"({'; '.join(parts)}){returned}"


def _shown(value: object) -> str:
    return _plain(repr(value))


def _plain(text: str) -> str:
    text = _NOISE.sub("", text)
    return _SET.sub(lambda found: f"frozenset({{{', '.join(sorted(found[1].split(', ')))}}})", text)


if __name__ == "__main__":
    json.dump(surface(), sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
