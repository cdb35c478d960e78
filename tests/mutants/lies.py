"""Small lies about a program: each is one place of its source, and what stands there instead."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Change = Callable[[], None]
Replace = Callable[[ast.AST], None]

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One place, and what is said there instead."""

    line: int
    label: str
    source: str


def mutations(source: str) -> list[Mutation]:
    """All that are made of a module. Texts, annotations, decorators and imports are left as they are."""
    number = sum(1 for _ in _changes(ast.parse(source)))
    made = []
    for n in range(number):
        tree = ast.parse(source)
        node, label, change = next(each for k, each in enumerate(_changes(tree)) if k == n)
        line, before = node.lineno, ast.unparse(node).splitlines()[0]
        change()
        made.append(
            Mutation(line, f"{before[:60]}  →  {label}", ast.unparse(ast.fix_missing_locations(tree)))
        )
    return made


Place = tuple[ast.expr | ast.stmt, str, Change]


def _changes(tree: ast.Module) -> Iterator[Place]:
    for node, replace in _nodes(tree):
        if isinstance(node, ast.expr):
            yield from _of_expression(node, replace)
        elif isinstance(node, ast.stmt):
            yield from _of_statement(node, replace)


def _nodes(node: ast.AST) -> Iterator[tuple[ast.AST, Replace]]:
    """Every node that says something, with a function that puts another in its place."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        if isinstance(value, ast.AST):
            yield from _below(value, partial(setattr, node, name))
        elif isinstance(value, list):
            for n, each in enumerate(value):
                if isinstance(each, ast.AST):
                    yield from _below(each, partial(value.__setitem__, n))


def _below(node: ast.AST, replace: Replace) -> Iterator[tuple[ast.AST, Replace]]:
    silent = (ast.Import, ast.ImportFrom, ast.JoinedStr)
    if isinstance(node, silent) or (isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING"):
        return
    if isinstance(node, ast.AnnAssign) and node.value is None:
        return
    yield node, replace
    yield from _nodes(node)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _of_expression(node: ast.expr, replace: Replace) -> Iterator[Place]:
    match node:
        case ast.Compare(ops=[op]):
            for other in COMPARISONS.get(type(op), ()):
                yield node, other.__name__, _setter(node, "ops", [other()])
        case ast.BoolOp(op=op):
            other_op = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield node, type(other_op).__name__, _setter(node, "op", other_op)
            for n in range(len(node.values)):
                kept = [value for k, value in enumerate(node.values) if k != n]
                new = kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)
                yield node, f"without part {n + 1}", _replacing(replace, new)
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield node, ARITHMETIC[type(op)].__name__, _setter(node, "op", ARITHMETIC[type(op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield node, "without not", _replacing(replace, node.operand)
        case ast.Constant(value=bool() as value):
            yield node, str(not value), _setter(node, "value", not value)
        case ast.Constant(value=int() | float() as number):
            yield node, str(number + 1), _setter(node, "value", number + 1)
        case ast.IfExp():
            yield node, "always", _replacing(replace, node.body)
            yield node, "never", _replacing(replace, node.orelse)
        case ast.Name(id=name) if name in NAMES:
            yield node, NAMES[name], _setter(node, "id", NAMES[name])
        case ast.Call(keywords=[_, *_]):
            for n, keyword in enumerate(node.keywords):
                if keyword.arg not in (None, "extra", "exc_info", "key", "default_factory"):
                    kept_words = [word for k, word in enumerate(node.keywords) if k != n]
                    yield node, f"without {keyword.arg}=", _setter(node, "keywords", kept_words)


def _of_statement(node: ast.stmt, replace: Replace) -> Iterator[Place]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield node, "nothing", _replacing(replace, ast.Pass())
        case ast.AugAssign() | ast.Delete():
            yield node, "nothing", _replacing(replace, ast.Pass())
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "nothing", _replacing(replace, ast.Pass())
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield node, "return None", _setter(node, "value", ast.Constant(None))
        case ast.Raise(exc=ast.expr()):
            yield node, "nothing", _replacing(replace, ast.Pass())
        case ast.If() | ast.While():
            if isinstance(node, ast.If):
                yield node, "always", _setter(node, "test", ast.Constant(True))
            yield node, "never", _setter(node, "test", ast.Constant(False))
        case ast.For():
            yield node, "for nothing", _setter(node, "iter", ast.Tuple([], ast.Load()))


def _setter(node: ast.AST, name: str, value: object) -> Change:
    return lambda: setattr(node, name, value)


def _replacing(replace: Replace, new: ast.AST) -> Change:
    return lambda: replace(new)
