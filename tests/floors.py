"""The floors of the package, for the tests and for ``.ci/coverage_floors.py``.

A module imports from its own floor and from those below it, never from one above.  The same table,
with what each module is for, is in ``docs/architecture.md``.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Modules and packages by floor; a package stands for all that is in it.
FLOORS: dict[int, frozenset[str]] = {
    0: frozenset(
        {
            "mailsvc",
            "mailsvc.errors",
            "mailsvc.events",
            "mailsvc.interfaces",
            "mailsvc.message",
            "mailsvc.parsed",
            "mailsvc.units",
            "mailsvc.wording",
        }
    ),
    1: frozenset(
        {"mailsvc.breaker", "mailsvc.dsn", "mailsvc.pace", "mailsvc.retry", "mailsvc.smtp"}
    ),
    2: frozenset(
        {
            "mailsvc.authentication",
            "mailsvc.certificates",
            "mailsvc.checkers",
            "mailsvc.credentials",
            "mailsvc.deadline",
            "mailsvc.deliverers",
            "mailsvc.direct",
            "mailsvc.eager",
            "mailsvc.keypairs",
            "mailsvc.links",
            "mailsvc.mime",
            "mailsvc.passwords",
            "mailsvc.patterns",
            "mailsvc.penalties",
            "mailsvc.proxyheader",
            "mailsvc.readers",
            "mailsvc.realm",
            "mailsvc.recipients",
            "mailsvc.routing",
            "mailsvc.secretfile",
            "mailsvc.spool",
            "mailsvc.threads",
            "mailsvc.trace",
            "mailsvc.turnend",
            "mailsvc.turns",
            "twisted.plugins.mailsvc_deliverers",
        }
    ),
    3: frozenset(
        {
            "mailsvc.dispatch",
            "mailsvc.intake",
            "mailsvc.notices",
            "mailsvc.synchronous",
            "mailsvc.testing",
            "mailsvc.transaction",
        }
    ),
    4: frozenset(
        {
            "mailsvc.attachments",
            "mailsvc.batch",
            "mailsvc.flow",
            "mailsvc.listener",
            "mailsvc.protocol",
            "mailsvc.proxied",
            "mailsvc.rules",
            "mailsvc.timing",
            "mailsvc.web",
        }
    ),
    5: frozenset(
        {
            "mailsvc.announcement",
            "mailsvc.composition",
            "mailsvc.config",
            "mailsvc.configcheck",
            "mailsvc.conversion",
            "mailsvc.control",
            "mailsvc.destinations",
            "mailsvc.doubts",
            "mailsvc.logs",
            "mailsvc.machine",
            "mailsvc.places",
            "mailsvc.ports",
            "mailsvc.quickstart",
            "mailsvc.service",
            "mailsvc.serving",
            "mailsvc.settings",
            "mailsvc.spelling",
            "mailsvc.vetting",
        }
    ),
    6: frozenset({"mailsvc.cli", "mailsvc.tap", "twisted.plugins.mailsvc_service"}),
}

#: Beside the path of a message: for the authors of plugins and their tests only.
PUBLIC_FOR_TESTS = "mailsvc.testing"


def floor_of(module: str) -> int | None:
    """Return the floor of ``module`` by its longest entry in the table, or None without one.

    ``mailsvc`` itself stands only for its own ``__init__``.
    """
    name = module
    while name and (name != "mailsvc" or module == "mailsvc"):
        for floor, modules in FLOORS.items():
            if name in modules:
                return floor
        name = name.rpartition(".")[0]
    return None


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Return every module of the package and of the plugins, by dotted name."""
    found: dict[str, Path] = {}
    for folder in ("mailsvc", "twisted/plugins"):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found
