"""Kinds of destination are found as plugins, and a broken one hides no other."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsvc.deliverers.plugins import Installed, PluginProblem, installed
from mailsvc.interfaces import IDeliverer, IDelivererFactory
from mailsvc.testing import MAIL, DelivererContract, FakeContext
from tests.floors import ROOT

EXAMPLE = ROOT / "docs/examples/command_deliverer.py"

#: Modules that no twistd command may load just by listing plugins.
HEAVY = (
    "mailsvc.deliverers.maildir",
    "mailsvc.deliverers.webhook",
    "mailsvc.mime",
    "mailsvc.service",
    "mailsvc.spool",
    "OpenSSL",
    "cryptography",
    "sqlite3",
    "treq",
    "twisted.internet.reactor",
    "twisted.web",
)

_INSTALLED = """
import json
from twisted.python import log
from mailsvc.deliverers.plugins import installed
found = installed()
print(json.dumps([
    {kind: type(each).__module__ for kind, each in found.kinds.items()},
    {each.module: each.cause for each in found.problems},
]))
"""


class PluginDirectory:
    """A directory with plugins, as a third party has one on its path.

    The work is done in a process of its own: what is imported stays there.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).resolve()
        self.plugins = self.path / "twisted/plugins"
        self.plugins.mkdir(parents=True)

    def add(self, name: str, source: str) -> None:
        (self.plugins / f"{name}.py").write_text(textwrap.dedent(source), "utf-8")

    def run(self, program: str) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{self.path}{os.pathsep}{ROOT}"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    def installed(self) -> tuple[dict[str, str], dict[str, str]]:
        kinds, problems = json.loads(self.run(_INSTALLED))
        return kinds, problems


OURS = dict.fromkeys(("discard", "maildir", "webhook"), "twisted.plugins.mailsvc_deliverers")

FACTORY = """
from msgspec import Struct
from twisted.plugin import IPlugin
from zope.interface import implementer
from mailsvc.interfaces import IDelivererFactory

class Options(Struct):
    pass

@implementer(IPlugin, IDelivererFactory)
class Factory:
    kind = {kind}
    options = {options}
    make = {make}

factory = Factory()
"""


class InstalledTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = PluginDirectory(self.mktemp())

    def test_ours_are_installed(self) -> None:
        found = installed()
        self.assertLessEqual(set(OURS), set(found.kinds))
        self.assertEqual(list(found.kinds), sorted(found.kinds))
        self.flushLoggedErrors()

    def test_broken_modules_hide_nothing_and_are_reported(self) -> None:
        self.directory.add("acme_absent", "import acme.absent\n")
        self.directory.add("acme_syntax", "def (:\n")
        self.directory.add("acme_exit", "raise SystemExit('no licence\\nfound')\n")
        self.directory.add("acme_silent", "raise ValueError\n")
        self.directory.add("acme_good", FACTORY.format(kind="'good'", options="Options", make="id"))
        for _ in ("first", "from the cache"):
            kinds, problems = self.directory.installed()
            self.assertEqual(kinds, {**OURS, "good": "twisted.plugins.acme_good"})
            self.assertIn("twisted.plugins.acme_syntax", problems)
            self.assertIn("SyntaxError: ", problems.pop("twisted.plugins.acme_syntax"))
            self.assertEqual(
                problems,
                {
                    "twisted.plugins.acme_absent": "ModuleNotFoundError: No module named 'acme'",
                    "twisted.plugins.acme_exit": "SystemExit: no licence found",
                    "twisted.plugins.acme_silent": "ValueError",
                },
            )

    def test_a_module_that_breaks_after_it_was_cached(self) -> None:
        self.directory.add(
            "acme_later",
            "import os\nif os.path.exists('broken'): raise OSError('gone')\n"
            + FACTORY.format(kind="'later'", options="Options", make="id"),
        )
        old = self.directory.plugins / "acme_later.py"
        os.utime(old, (1_600_000_000, 1_600_000_000))
        kinds, problems = self.directory.installed()
        self.assertIn("later", kinds)
        self.assertEqual(problems, {})
        (self.directory.path / "broken").touch()
        kinds, problems = self.directory.installed()
        self.assertEqual(kinds, OURS)
        self.assertEqual(problems, {"twisted.plugins.acme_later": "OSError: gone"})

    def test_half_a_factory_is_reported(self) -> None:
        for number, (kind, options, make, cause) in enumerate(
            (
                ("None", "Options", "id", "its kind is no text"),
                ("''", "Options", "id", "its kind is no text"),
                ("'a'", "dict", "id", "kind 'a': its options are no msgspec.Struct type"),
                ("'a'", "{}", "id", "kind 'a': its options are no msgspec.Struct type"),
                ("'a'", "Options", "None", "kind 'a': it has no make method"),
                (
                    "'maildir'",
                    "Options",
                    "id",
                    "kind 'maildir' is there already, from twisted.plugins.mailsvc_deliverers",
                ),
            )
        ):
            with self.subTest(cause=cause):
                directory = PluginDirectory(self.mktemp())
                name = f"zzz_{number}"
                directory.add(name, FACTORY.format(kind=kind, options=options, make=make))
                kinds, problems = directory.installed()
                self.assertEqual(kinds, OURS)
                self.assertEqual(problems, {f"twisted.plugins.{name}": cause})

    def test_a_problem_in_words(self) -> None:
        problem = PluginProblem("twisted.plugins.acme", "ImportError: no")
        self.assertEqual(str(problem), "twisted.plugins.acme: ImportError: no")
        self.assertEqual(Installed({}).problems, ())

    def test_listing_plugins_loads_nothing_heavy(self) -> None:
        """Every twistd command imports every plugin module: ours bring nothing along."""
        program = f"""
        import sys
        before = set(sys.modules)
        import twisted.plugins.mailsvc_deliverers
        from mailsvc.deliverers.options import WebhookOptions
        print(*sorted(name for name in set(sys.modules) - before
                      if any(name == each or name.startswith(each + ".") for each in {HEAVY})))
        """
        self.assertEqual(self.directory.run(textwrap.dedent(program)).strip(), "")


class MakeTests(SynchronousTestCase):
    def test_each_kind_is_made(self) -> None:
        kinds = installed().kinds
        for kind, keys in (
            ("maildir", {"path": self.mktemp()}),
            ("webhook", {"url": "https://app.example.com/", "format": "raw"}),
            ("discard", {}),
        ):
            deliverer = kinds[kind].make(kinds[kind].options(**keys), FakeContext())
            self.assertTrue(IDeliverer.providedBy(deliverer))
        self.flushLoggedErrors()


class ExampleTests(DelivererContract, TestCase):
    """The example of the documentation is a deliverer as good as any."""

    def make_deliverer(self) -> IDeliverer:
        self.script = Path(self.mktemp()).resolve()
        self.script.write_text("#!/bin/sh\nexec cat > /dev/null\n", "utf-8")
        self.script.chmod(0o700)
        specification = importlib.util.spec_from_file_location("command_deliverer", EXAMPLE)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        factory = IDelivererFactory(module.command)
        return factory.make(factory.options(command=[str(self.script)]), FakeContext())

    def test_it_is_short(self) -> None:
        lines = [line for line in EXAMPLE.read_text("utf-8").splitlines() if line]
        self.assertLess(len(lines), 20)

    def test_it_is_found_and_delivers(self) -> None:
        """Installed as the documentation says, by a process that has nothing but it."""
        directory = PluginDirectory(self.mktemp())
        directory.add("command_deliverer", EXAMPLE.read_text("utf-8"))
        program = """
        from twisted.internet.defer import Deferred
        from mailsvc.deliverers.plugins import installed
        from mailsvc.testing import FakeContext, MemoryContent, make_delivery
        import msgspec
        factory = installed().kinds["command"]
        options = msgspec.convert({"command": ["tee", "copy"]}, factory.options)
        deliverer = factory.make(options, FakeContext())
        done = Deferred.fromCoroutine(deliverer.deliver(make_delivery(), MemoryContent()))
        assert done.result is None
        """
        directory.run(textwrap.dedent(program))
        self.assertEqual((directory.path / "copy").read_bytes(), MAIL)
