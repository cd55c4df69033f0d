"""``mailsvc check``, ``route`` and ``reload``: what a configuration means, and taking it up."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from mailsvc.cli.places import directory_of, servers
from mailsvc.cli.screen import OK, PROBLEM, CommandError, Screen, plural
from mailsvc.control import protocol as wire
from mailsvc.errors import ConfigError
from mailsvc.wording import printable

if TYPE_CHECKING:
    from mailsvc.settings import Settings


def add_commands(add: Callable[..., ArgumentParser]) -> None:
    """Add the commands of this module."""
    add("check", check, "say what is wrong with a configuration file")
    route = add("route", explain, "explain what would happen to a mail for an address")
    route.add_argument("address", metavar="ADDRESS")
    add("reload", reload, "let the running server read its configuration and certificates again")


def load(path: str) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings of a file, and what is wrong with installed plugins.

    :raises ConfigError: they cannot be used.
    """
    # Only here: the other commands do without the plugins, which are many files.
    from mailsvc.config import load
    from mailsvc.deliverers.plugins import installed

    found = installed()
    return load(path, found.kinds, found.problems), tuple(map(str, found.problems))


def check(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc check``."""
    if not arguments.config:
        arguments.fail("the following arguments are required: --config FILE")
    from twisted.internet.selectreactor import SelectReactor

    from mailsvc.configcheck import check
    from mailsvc.settings import Settings

    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    counts = ""
    # It is lent to the deliverers that are tried, and never runs.
    reactor = SelectReactor()
    try:
        settings, broken = load(arguments.config)
    except ConfigError as error:
        problems = error.problems
        if isinstance(error.readable, Settings):
            problems += check(error.readable, reactor).problems
    else:
        findings = check(settings, reactor)
        problems = findings.problems
        warnings = (*(f"plugin not usable: {each}" for each in broken), *findings.warnings)
        counts = ", ".join(
            (
                plural(len(settings.listeners), "listener", "listeners"),
                plural(len(settings.destinations), "destination", "destinations"),
                plural(len(settings.rules), "route", "routes"),
            )
        )
    screen.value({"problems": problems, "warnings": warnings})
    for problem in problems:
        screen.line(printable(problem, 2000))
    for warning in warnings:
        screen.line(f"warning: {printable(warning, 2000)}")
    if not problems:
        screen.line(f"{arguments.config}: good: {counts}")
    return PROBLEM if problems else OK


def explain(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc route``: by the file, if one is named, else by the running server."""
    report = _by_file(arguments) if arguments.config else _by_server(arguments)
    screen.value(report)
    for line in report.lines:
        screen.line(printable(line, 2000))
    return OK if report.accepted else PROBLEM


def _by_file(arguments: Namespace) -> wire.RouteReport:
    settings, _ = load(arguments.config)
    from mailsvc.control.explanation import explain
    from mailsvc.routing import Router
    from mailsvc.settings import POSTMASTER

    router = Router(settings.rules, settings.hostname, POSTMASTER, settings.kinds)
    return explain(router, arguments.address)


def _by_server(arguments: Namespace) -> wire.RouteReport:
    directory = directory_of(arguments)
    with servers(directory) as clients:
        if not clients:
            raise CommandError(
                f"no server runs on the spool {directory}; name a configuration with --config FILE"
            )
        report: wire.RouteReport = clients[0].ask(wire.Explain(arguments.address), wire.RouteReport)
    return report


def reload(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc reload``: as SIGHUP does, but with an answer."""
    directory = directory_of(arguments)
    problems: list[str] = []
    with servers(directory) as clients:
        if not clients:
            raise CommandError(f"no server runs on the spool {directory}")
        for client in clients:
            problems += client.ask(wire.Reload(), tuple[str, ...])
    screen.value({"problems": problems})
    for problem in problems:
        screen.line(printable(problem, 2000))
    screen.line("not reloaded; the old configuration stays in force" if problems else "reloaded")
    return PROBLEM if problems else OK
