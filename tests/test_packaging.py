"""What is installed is all that is needed, and the plugins are found where twistd looks."""

from __future__ import annotations

from configparser import ConfigParser

from twisted.trial.unittest import SynchronousTestCase

from tests.floors import ROOT


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
            if path.is_file() and path.suffix not in (".py", ".pyc")
        }
        self.assertEqual(sorted(map(str, there - listed)), [])
