"""Finds the kinds of destination that are installed.

A plugin module that cannot be imported hides no other: it is reported, with its cause, beside the
kinds that were found.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import msgspec
from twisted.plugin import CachedDropin, getCache, getPlugins
from twisted.python.modules import getModule

import twisted.plugins
from mailsvc.interfaces import IDelivererFactory
from mailsvc.wording import printable

_OURS = "twisted.plugins.mailsvc_deliverers"


@dataclass(frozen=True, slots=True)
class PluginProblem:
    """A plugin that cannot be used.

    :ivar module: the plugin module's dotted name.
    :ivar cause: why, in one line.
    """

    module: str
    cause: str

    def __str__(self) -> str:
        return f"{self.module}: {self.cause}"


@dataclass(frozen=True, slots=True)
class Installed:
    """What was found.

    :ivar kinds: the factories by their kind, sorted.
    """

    kinds: Mapping[str, IDelivererFactory]
    problems: tuple[PluginProblem, ...] = ()


def installed(package: ModuleType = twisted.plugins) -> Installed:
    """Return the deliverer plugins of ``package``.

    Twisted logs the traceback of each module that it fails to import.
    """
    kinds: dict[str, IDelivererFactory] = {}
    problems: list[PluginProblem] = []
    # A kind of ours stays ours, whatever else is installed and in whatever order.
    factories = sorted(getPlugins(IDelivererFactory, package), key=_is_foreign)
    for factory in factories:
        module = type(factory).__module__
        cause = _unusable(factory)
        if not cause and factory.kind in kinds:
            other = type(kinds[factory.kind]).__module__
            cause = f"kind {printable(factory.kind)!r} is there already, from {other}"
        if cause:
            problems.append(PluginProblem(module, cause))
        else:
            kinds[factory.kind] = factory
    problems.extend(_not_imported(package))
    return Installed(dict(sorted(kinds.items())), tuple(problems))


def _is_foreign(factory: IDelivererFactory) -> bool:
    module: str = type(factory).__module__
    return module != _OURS


def _unusable(factory: IDelivererFactory) -> str:
    """Say what a plugin lacks that says it is a deliverer's factory; nothing if it is whole."""
    kind = getattr(factory, "kind", None)
    if not isinstance(kind, str) or not kind:
        return "its kind is no text"
    options = getattr(factory, "options", None)
    if not (isinstance(options, type) and issubclass(options, msgspec.Struct)):
        return f"kind {printable(kind)!r}: its options are no msgspec.Struct type"
    if not callable(getattr(factory, "make", None)):
        return f"kind {printable(kind)!r}: it has no make method"
    return ""


def _not_imported(package: ModuleType) -> list[PluginProblem]:
    """Import what Twisted could not, or may have had to, and return what fails."""
    problems = []
    cache: dict[str, CachedDropin] = getCache(package)
    for module in getModule(package.__name__).iterModules():
        dropin = cache.get(module.name.rpartition(".")[2])
        # In the cache are the modules that could once be imported.  Of those, only the ones that
        # offer deliverers matter here; importing the others would slow every start down.
        if dropin is not None and not any(
            each.isOrExtends(IDelivererFactory) for one in dropin.plugins for each in one.provided
        ):
            continue
        try:
            importlib.import_module(module.name)
        # A plugin may raise anything, SystemExit included; getPlugins catches as much.
        except BaseException as error:
            problems.append(PluginProblem(module.name, _cause(error)))
    return problems


def _cause(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return printable(" ".join(text.split()), 500)
