"""Checks a mapping from a file, the environment or the command line against the types
of a settings struct.

msgspec decides; this module finds the key, and reports in the words of TOML instead of
Python.
"""

import reprlib
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from localtunnel.cli.usage import nearest

_KINDS: dict[type[inspect.Type], str] = {
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.StrType: "string",
    inspect.BoolType: "boolean",
}
_FITS = {int: ("whole number", "number"), float: ("number",), str: ("string",), bool: ("boolean",)}
_BOUNDS = (
    ("gt", "above {}"),
    ("ge", "at least {}"),
    ("lt", "below {}"),
    ("le", "at most {}"),
    ("min_length", "with at least {} characters"),
    ("max_length", "with at most {} characters"),
)


class Fault(NamedTuple):
    """What is wrong with one value: the path of its key, and the end of a sentence."""

    path: tuple[str, ...]
    text: str


def faults(struct: type[msgspec.Struct], values: Mapping[str, Any], table: tuple[str, ...] = ()) -> Iterator[Fault]:
    """Yield a fault for each key of ``values``, the content of ``table``, that
    ``struct`` refuses."""
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in values.items():
        path = (*table, key)
        if key not in fields:
            yield Fault(path, f"unknown key{nearest(key, list(fields))}")
        elif not _is_table(fields[key]):
            if not _fits(value, fields[key]):
                yield Fault(path, _wanted(fields[key], value))
        elif isinstance(value, Mapping):
            yield from faults(fields[key], value, path)
        else:
            yield Fault(path, f"expected table, got {_kind_of(value)}; write [{key}] on a line of its own.")


def from_text(struct: type[msgspec.Struct], key: str, text: str) -> int | float | str:
    """Return ``text`` as a number if the field ``key`` wants one and ``text`` is one,
    else unchanged."""
    annotation = next(field.type for field in msgspec.structs.fields(struct) if field.name == key)
    kinds = _kinds(inspect.type_info(annotation))
    if "string" in kinds:
        return text
    for kind, convert in (("whole number", int), ("number", float)):
        if kind in kinds:
            try:
                return convert(text)
            except ValueError:
                return text
    return text


def _fits(value: Any, annotation: Any) -> bool:
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def _wanted(annotation: Any, value: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        choices = ", ".join(str(choice) for choice in typing.get_args(annotation))
        return f"expected one of {choices}, got {_shown(value)}."
    if typing.get_origin(annotation) is tuple:
        return _wanted_array(typing.get_args(annotation)[0], value)
    info = inspect.type_info(annotation)
    kinds = _kinds(info)
    wanted = " or ".join(kinds)
    if not any(kind in kinds for kind in _FITS.get(type(value), ())):
        shown = f" {_shown(value)}" if isinstance(value, str) else ""
        return f"expected {wanted}, got {_kind_of(value)}{shown}."
    bounds = [
        words.format(bound)
        for member in _members(info)
        for name, words in _BOUNDS
        if (bound := getattr(member, name, None)) is not None
    ]
    return f"expected {wanted} {' and '.join(bounds)}, got {_shown(value)}."


def _wanted_array(item: Any, value: Any) -> str:
    if not isinstance(value, list):
        remedy = f"; write it in brackets, as in [{_shown(value)}]" if _fits(value, item) else ""
        return f"expected array, got {_kind_of(value)}{remedy}."
    wrong = next(each for each in value if not _fits(each, item))
    return f"in the array, {_wanted(item, wrong)}"


def _members(info: inspect.Type) -> tuple[inspect.Type, ...]:
    return info.types if isinstance(info, inspect.UnionType) else (info,)


def _kinds(info: inspect.Type) -> list[str]:
    return [_KINDS[type(member)] for member in _members(info) if type(member) in _KINDS]


def _kind_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "table"
    if isinstance(value, list):
        return "array"
    return _FITS.get(type(value), (type(value).__name__,))[0]


def _shown(value: Any) -> str:
    return reprlib.repr(value) if isinstance(value, str | int | float) else _kind_of(value)
