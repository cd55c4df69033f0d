"""The house stands on its floors: imports go down, and floor-mates do not import in a circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.floors import FLOORS, PUBLIC_FOR_TESTS, floor_of, sources

#: What floor 1 may not know: a session fed the same octets always gives the same answers.
_CLOCKS_AND_FILES = frozenset(
    {"asyncio", "pathlib", "select", "shutil", "socket", "sqlite3", "subprocess"}
    | {"tempfile", "threading", "time"}
)


def imported(tree: ast.AST, module: str, package: bool, known: Mapping[str, object]) -> set[str]:
    """Return the dotted names that a module imports, wherever in it.

    :param known: the package's modules: ``from a import b`` names ``a.b`` where that is one.
    """
    here = module.split(".") if package else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                names.add(inner if inner in known or source not in known else source)
    return names


def inside(name: str, package: str) -> bool:
    """Say whether ``name`` is ``package`` or within it."""
    return name == package or name.startswith(package + ".")


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one import circle, or nothing."""
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return trail[trail.index(name) :] + [name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            found = walk(target, [*trail, name])
            if found:
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        found = walk(name, [])
        if found:
            return found
    return []


class FloorTests(SynchronousTestCase):
    """The package as it is in this tree."""

    def setUp(self) -> None:
        self.sources = sources()
        self.trees = {
            name: ast.parse(path.read_text("utf-8"), str(path))
            for name, path in self.sources.items()
        }
        self.imports = {
            name: imported(tree, name, self.sources[name].name == "__init__.py", self.sources)
            for name, tree in self.trees.items()
        }

    def within(self, floors: range) -> Iterator[tuple[str, set[str]]]:
        for name, names in self.imports.items():
            if floor_of(name) in floors:
                yield name, names

    def test_every_module_has_a_floor(self) -> None:
        homeless = [name for name in self.sources if floor_of(name) is None]
        self.assertEqual(homeless, [], "add these to tests/floors.py and docs/architecture.md")

    def test_every_entry_of_the_table_exists(self) -> None:
        listed = {name for modules in FLOORS.values() for name in modules}
        self.assertEqual(sorted(listed - set(self.sources)), [])

    def test_imports_go_down(self) -> None:
        upward = [
            f"{name} (floor {floor_of(name)}) imports {target} (floor {above})"
            for name, names in self.imports.items()
            for target in names
            if (above := floor_of(target)) is not None and above > (floor_of(name) or 0)
        ]
        self.assertEqual(upward, [])

    def test_floor_mates_do_not_import_in_a_circle(self) -> None:
        graph = {
            name: {target for target in names if floor_of(target) == floor_of(name)}
            for name, names in self.imports.items()
        }
        self.assertEqual(circle(graph), [])

    def test_floor_0_needs_little(self) -> None:
        """The standard library, zope.interface for the interfaces, msgspec for the values."""
        foreign = [
            f"{name} imports {target}"
            for name, names in self.within(range(1))
            for target in names
            if not inside(target, "mailsvc")
            and not inside(target, "zope.interface")
            and not inside(target, "msgspec")
            and target.partition(".")[0] not in sys.stdlib_module_names
        ]
        self.assertEqual(foreign, [])

    def test_floors_0_and_1_know_nothing_of_twisted(self) -> None:
        knowing = [
            f"{name} imports {target}"
            for name, names in self.within(range(2))
            for target in names
            if inside(target, "twisted")
        ]
        self.assertEqual(knowing, [])

    def test_floor_1_has_no_clock_and_no_file(self) -> None:
        impure = [
            f"{name} imports {target}"
            for name, names in self.within(range(1, 2))
            for target in names
            if target.partition(".")[0] in _CLOCKS_AND_FILES
        ]
        opening = [
            name
            for name, _ in self.within(range(1, 2))
            for node in ast.walk(self.trees[name])
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "open"
        ]
        self.assertEqual(impure + opening, [])

    def test_only_tap_imports_the_reactor(self) -> None:
        importing = [
            name
            for name, names in self.imports.items()
            if name != "mailsvc.tap" and "twisted.internet.reactor" in names
        ]
        self.assertEqual(importing, [])

    def test_what_is_for_tests_stays_with_the_tests(self) -> None:
        using = [
            name
            for name, names in self.imports.items()
            if not inside(name, PUBLIC_FOR_TESTS)
            and any(inside(target, PUBLIC_FOR_TESTS) for target in names)
        ]
        self.assertEqual(using, [])


class ReadingTests(SynchronousTestCase):
    """The tests above can fail: each kind of import is seen, and so is a circle."""

    known = {"mailsvc": 0, "mailsvc.smtp": 0, "mailsvc.smtp.session": 0, "mailsvc.tap": 0}

    def read(self, text: str, module: str = "mailsvc.smtp.grammar") -> set[str]:
        return imported(ast.parse(text), module, False, self.known)

    def test_plain(self) -> None:
        self.assertEqual(self.read("import mailsvc.tap, os"), {"mailsvc.tap", "os"})

    def test_module_from_package(self) -> None:
        self.assertEqual(self.read("from mailsvc import tap"), {"mailsvc.tap"})

    def test_name_from_module(self) -> None:
        self.assertEqual(self.read("from mailsvc.tap import Options"), {"mailsvc.tap"})

    def test_relative(self) -> None:
        self.assertEqual(self.read("from .session import Session"), {"mailsvc.smtp.session"})
        self.assertEqual(self.read("from .. import tap"), {"mailsvc.tap"})

    def test_inside_a_function(self) -> None:
        self.assertEqual(
            self.read("def f():\n    from twisted.internet import reactor"),
            {"twisted.internet.reactor"},
        )

    def test_circle(self) -> None:
        self.assertEqual(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}), ["b", "c", "b"])
        self.assertEqual(circle({"a": {"b", "c"}, "b": {"c"}}), [])

    def test_floor_of(self) -> None:
        self.assertEqual(floor_of("mailsvc.smtp.session"), 1)
        self.assertEqual(floor_of("mailsvc"), 0)
        self.assertIsNone(floor_of("mailsvc.unheard_of"))
        self.assertIsNone(floor_of("twisted.internet"))

    def test_sources_are_found(self) -> None:
        found = sources()
        self.assertEqual(found["mailsvc.smtp"], Path(found["mailsvc"]).parent / "smtp/__init__.py")
