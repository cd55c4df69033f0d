"""One table of a TOML file to one Struct, with errors in words for people."""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import msgspec

from mailsvc.spelling import did_you_mean
from mailsvc.units import convert_unit

S = TypeVar("S")

_WHERE = re.compile(r"(?P<text>.*) - at `\$(?P<path>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.+)`")
_CHOICE = re.compile(r"Invalid enum value (.+)")
_WRONG_TYPE = re.compile(r"Expected `(.+?)`, got `(.+)`")
_BOUND = re.compile(r"Expected `(?:int|float)` (>=|<=|>|<) (\S+)")
_LENGTH = re.compile(r"Expected `\w+` of length (>=|<=|==) (\d+)")
_OWN_KEY = re.compile(r"([a-z_]+): (.+)", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")

_TYPES = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array in brackets",
    "object": "a table",
    "datetime": "a date",
    "date": "a date",
    "time": "a time of day",
}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than", "==": "exactly"}


class Fault(Exception):
    """A table does not fit; ``key`` is empty where no key can be blamed."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key
        self.text = text


def keys_of(struct: type) -> tuple[str, ...]:
    """Return the keys that a Struct type takes, as a file names them."""
    return tuple(field.encode_name for field in msgspec.structs.fields(struct))


def convert_table(table: Mapping[str, object], struct: type[S]) -> S:
    """Return ``table`` as a ``struct``.

    :raises Fault: with the first thing that does not fit.
    """
    known = keys_of(struct)
    for key in table:
        if key not in known:
            raise Fault(key, f"unknown key{did_you_mean(key, known)}")
    try:
        return msgspec.convert(table, struct, dec_hook=convert_unit)
    except msgspec.ValidationError as error:
        raise fault_of(error, struct) from None


def fault_of(error: msgspec.ValidationError, struct: type) -> Fault:
    """Return msgspec's message in our words."""
    text, path = str(error), ""
    located = _WHERE.fullmatch(text)
    if located is not None:
        text, path = located["text"], located["path"]
    steps = [name or f"[{index}]" for name, index in _STEP.findall(path)]
    key = steps[0] if steps else ""
    inner = _inner(steps[1:])
    if found := _MISSING.fullmatch(text):
        return Fault(key, f"{inner}{found[1]} is missing") if key else Fault(found[1], "is missing")
    if found := _UNKNOWN.fullmatch(text):
        return Fault(key, f"{inner}unknown key {found[1]!r}")
    if found := _CHOICE.fullmatch(text):
        return Fault(key, inner + _not_a_choice(found[1], struct, key))
    if found := _WRONG_TYPE.fullmatch(text):
        return Fault(key, f"{inner}must be {_kinds(found[1])}, not {_kinds(found[2])}")
    if found := _BOUND.fullmatch(text):
        return Fault(key, f"{inner}must be {_BOUNDS[found[1]]} {found[2]}")
    if found := _LENGTH.fullmatch(text):
        return Fault(key, f"{inner}its length must be {_BOUNDS[found[1]]} {found[2]}")
    own = _OWN_KEY.fullmatch(text)
    if own is not None and own[1] in keys_of(struct) and not key:
        return Fault(own[1], own[2])
    return Fault(key, inner + text)


def _inner(steps: list[str]) -> str:
    """Return where in a key's value: an array's items count from 1."""
    words = []
    for step in steps:
        if step == "[...]":
            continue
        number = step.strip("[]")
        words.append(f"item {int(number) + 1}" if number.isdigit() else number)
    return f"{', '.join(words)}: " if words else ""


def _kinds(names: str) -> str:
    words = [_TYPES.get(name, name) for name in names.split(" | ") if name != "null"]
    return " or ".join(words) or "nothing"


def _not_a_choice(shown: str, struct: type, key: str) -> str:
    choices = [str(each) for each in _choices(_hint(struct, key))]
    word = shown.strip("'")
    listed = ", ".join(f'"{each}"' for each in choices)
    one_of = f" (one of {listed})" if listed else ""
    return f"unknown word {word!r}{one_of}{did_you_mean(word, choices)}"


def _hint(struct: type, key: str) -> object:
    for field in msgspec.structs.fields(struct):
        if field.encode_name == key:
            return field.type
    return None


def _choices(hint: object) -> Iterator[object]:
    """Yield the words that a type allows, wherever in it they stand."""
    if typing.get_origin(hint) is Literal:
        yield from typing.get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield from (each.value for each in hint)
    else:
        for inner in typing.get_args(hint):
            yield from _choices(inner)
