"""What is installed is all that is needed, and the plugins are found where twistd looks."""

from __future__ import annotations

import ast
import os
import runpy
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.floors import ROOT, floor_of, sources

SETUP = str(ROOT / "setup.py")


class SetupTests(SynchronousTestCase):
    """``setup.cfg`` against the tree."""

    def setUp(self) -> None:
        self.setup = ConfigParser()
        self.setup.read(ROOT / "setup.cfg", "utf-8")

    def words(self, section: str, key: str) -> list[str]:
        return self.setup.get(section, key).split()

    def test_every_package_is_listed(self) -> None:
        there = {
            ".".join(path.parent.relative_to(ROOT).parts)
            for path in (ROOT / "mailsvc").rglob("__init__.py")
        }
        self.assertEqual(set(self.words("options", "packages")), there | {"twisted.plugins"})

    def test_twisted_stays_a_package_of_twisted(self) -> None:
        """An ``__init__.py`` of ours would hide Twisted itself."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_data_is_listed(self) -> None:
        """Everything in the package that is not a module is named as package data."""
        listed = {
            path
            for section in ("options.package_data",)
            for package, names in self.setup.items(section)
            for name in names.split()
            for path in (ROOT / package.replace(".", "/")).glob(name)
        }
        there = {
            path
            for path in (ROOT / "mailsvc").rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc", ".so")
        }
        self.assertEqual(sorted(map(str, there - listed)), [])


class CompilingTests(SynchronousTestCase):
    """``setup.py``: what is compiled, and that nothing is unless it is asked for."""

    def setUp(self) -> None:
        listed = runpy.run_path(SETUP)["COMPILED"]
        self.listed = {path.removesuffix(".py").replace("/", "."): path for path in listed}
        self.assertEqual(list(listed), sorted(set(listed)))

    def asked(self, *words: str, **environment: str) -> dict[str, Any]:
        """Return what ``setup.py`` asks of setuptools."""
        others = {name: each for name, each in os.environ.items() if name != "MAILSVC_COMPILE"}
        with (
            mock.patch("setuptools.setup") as setup,
            mock.patch.object(sys, "argv", [SETUP, *words]),
            mock.patch.dict(os.environ, {**others, **environment}, clear=True),
        ):
            runpy.run_path(SETUP, run_name="__main__")
        (call,) = setup.call_args_list
        self.assertEqual(call.args, ())
        return dict(call.kwargs)

    def test_modules_are_those_on_the_path_of_a_message(self) -> None:
        """They exist, and are neither a command nor what twistd looks for plugins in."""
        self.assertEqual(set(self.listed) - set(sources()), set())
        hot = (
            *("protocol", "smtp.session", "intake", "spool.writer", "dispatch.dispatcher"),
            "mime.mail",
        )
        self.assertEqual({f"mailsvc.{each}" for each in hot} - set(self.listed), set())
        self.assertEqual([each for each in self.listed if (floor_of(each) or 0) > 5], [])

    def classes(self) -> Iterator[tuple[str, ast.ClassDef]]:
        """Yield each class of the listed modules, with its place."""
        for path in self.listed.values():
            for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
                if isinstance(node, ast.ClassDef):
                    yield f"{path}:{node.lineno}", node

    def test_no_class_is_decorated_with_its_interface(self) -> None:
        """It would still work, but as a slow class of the interpreter's."""
        found = [
            place
            for place, node in self.classes()
            if any("implementer" in ast.unparse(each) for each in node.decorator_list)
        ]
        self.assertEqual(found, [])

    def test_no_class_is_a_struct(self) -> None:
        """Compiled, it would be made without the words behind its base: not frozen, no hash."""
        self.assertEqual([place for place, node in self.classes() if node.keywords], [])

    def test_nothing_waits_where_an_exception_is_handled(self) -> None:
        """Compiled, it would stay the exception that the whole thread handles, until the wait ends.

        Any other that is raised meanwhile would name it as its context.
        """
        found = [
            f"{path}:{node.lineno}"
            for path in self.listed.values()
            for tried in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
            if isinstance(tried, ast.Try)
            for part in (*tried.handlers, *tried.finalbody)
            for node in ast.walk(part)
            if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom))
        ]
        self.assertEqual(found, [])

    def test_nothing_is_compiled_unless_it_is_asked_for(self) -> None:
        for environment in ({}, {"MAILSVC_COMPILE": "0"}, {"MAILSVC_COMPILE": ""}):
            for command in ("egg_info", "bdist_wheel", "editable_wheel"):
                self.assertEqual(self.asked(command, **environment), {})

    def test_what_compiling_needs_is_asked_for_first(self) -> None:
        """It is asked for before mypy is there; a library's types have to be known, too."""
        asked = self.asked("egg_info", MAILSVC_COMPILE="1")
        names = {each.split()[0].partition("[")[0] for each in asked["setup_requires"]}
        self.assertLessEqual({"mypy", "mypy-zope", "Twisted", "msgspec"}, names)
        self.assertEqual(asked["ext_modules"], [])
