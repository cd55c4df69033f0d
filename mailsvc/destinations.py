"""One ``[destination.NAME]`` section: the keys of every destination, and those of its kind."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from mailsvc.conversion import Fault, convert_table, keys_of
from mailsvc.errors import ConfigError
from mailsvc.interfaces import IDeliverer, IDelivererContext, IDelivererFactory
from mailsvc.settings import Destination, Knobs, Settings
from mailsvc.spelling import did_you_mean


def make_destination(
    name: str,
    table: Mapping[str, object],
    kinds: Mapping[str, IDelivererFactory],
    broken: Sequence[object] = (),
) -> Destination:
    """Return the destination that a table describes.

    :raises Fault: with the first thing that does not fit.
    """
    kind = table.get("kind")
    known = ", ".join(sorted(kinds))
    if kind is None:
        raise Fault("kind", f"is missing (one of {known})")
    factory = kinds.get(kind) if isinstance(kind, str) else None
    if factory is None:
        unknown = f"unknown kind {kind!r} (there are {known}){did_you_mean(str(kind), kinds)}"
        raise Fault("kind", "; ".join([unknown, *map(str, broken)]))
    options, knobs = keys_of(factory.options), keys_of(Knobs)
    both = sorted(set(options) & set(knobs))
    if both:
        raise Fault("kind", f"the kind {kind} has an option {both[0]}, as every destination has")
    for key in table:
        if key not in options and key not in knobs:
            raise Fault(key, f"unknown key{did_you_mean(key, [*options, *knobs])}")
    return Destination(
        name,
        convert_table({key: table[key] for key in table if key in knobs}, Knobs),
        convert_table({key: table[key] for key in table if key in options}, _struct(factory)),
        factory,
    )


def _struct(factory: IDelivererFactory) -> type[Any]:
    return factory.options


def make_deliverer(
    settings: Settings, destination: Destination, context: IDelivererContext
) -> IDeliverer:
    """Return the deliverer of a destination.  Blocking: it may read files.

    :raises mailsvc.errors.ConfigError: its options cannot work, or its kind is broken; each problem
        with its place.
    """
    try:
        deliverer = destination.factory.make(destination.options, context)
    except ConfigError as error:
        problems = [_placed(settings, destination, text) for text in error.problems]
        raise ConfigError(*problems) from error
    except Exception as error:
        # Whoever wrote the kind needs the line of their own code.
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        what = f"{type(error).__name__}: {error} (at {frame.f_code.co_filename}:{line})"
        raise ConfigError(_broken(settings, destination, f"failed: {what}")) from error
    if not IDeliverer.providedBy(deliverer):
        text = f"made {type(deliverer).__name__}, which does not provide IDeliverer"
        raise ConfigError(_broken(settings, destination, text))
    return deliverer


def _broken(settings: Settings, destination: Destination, text: str) -> str:
    kind = destination.factory.kind
    return settings.problem(f"destination.{destination.name}", "kind", f"the kind {kind} {text}")


def _placed(settings: Settings, destination: Destination, text: str) -> str:
    """Return the line of a problem that a kind words as ``key: what is wrong``."""
    section = f"destination.{destination.name}"
    key, colon, rest = text.partition(": ")
    if colon and key in keys_of(type(destination.options)):
        return settings.problem(section, key, rest)
    return settings.problem(section, "", text)
