"""The files under ``etc/`` and the page about configuration are complete and work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailsvc import config
from mailsvc.conversion import keys_of
from mailsvc.deliverers.plugins import installed
from mailsvc.errors import ConfigError
from mailsvc.settings import (
    Auth,
    Http,
    Knobs,
    Limits,
    Listener,
    Notifications,
    RouteKeys,
    Tls,
)
from twisted.plugins import mailsvc_deliverers

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / "etc" / "mailsvc.toml").read_text("utf-8")
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
KINDS = (mailsvc_deliverers.webhook, mailsvc_deliverers.maildir, mailsvc_deliverers.discard)

#: What heads each section's keys: in the example and on the page.
SECTIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("", "## Before the first section", ("hostname", "spool")),
    ("[[listener]]", "## `[[listener]]`", keys_of(Listener)),
    ("[tls]", "## `[tls]`", keys_of(Tls)),
    ("[auth]", "## `[auth]`", keys_of(Auth)),
    ("[limits]", "## `[limits]`", keys_of(Limits)),
    ("[destination.app]", "## `[destination.NAME]`", keys_of(Knobs)),
    *(
        (f"kind:{each.kind}", f'### `kind = "{each.kind}"`', keys_of(each.options))
        for each in KINDS
    ),
    ("[[route]]", "## `[[route]]`", keys_of(RouteKeys)),
    ("[notifications]", "## `[notifications]`", keys_of(Notifications)),
    ("[http]", "## `[http]`", keys_of(Http)),
)


def sections_of(text: str) -> dict[str, str]:
    """Return what stands under each header of the example, arrays' tables together."""
    found = {"": ""}
    header = ""
    for line in text.splitlines():
        if line.startswith("["):
            header = line.partition("#")[0].strip()
            found.setdefault(header, "")
        else:
            found[header] += line + "\n"
    for header in list(found):
        kind = re.search(r'^kind = "(\w+)"', found[header], re.MULTILINE)
        if kind is not None:
            found[f"kind:{kind[1]}"] = found[header]
    return found


def uncommented(text: str) -> str:
    """Return the example with every key that is commented out put in force."""
    return re.sub(r"(?m)^# (?=[a-z0-9_]+ = )", "", text)


class ExampleTests(SynchronousTestCase):
    def test_it_loads(self) -> None:
        settings = config.read(EXAMPLE, "etc/mailsvc.toml", installed().kinds)
        self.assertEqual(settings.warnings, ())

    def test_it_shows_every_key(self) -> None:
        sections = sections_of(EXAMPLE)
        for header, _, keys in SECTIONS:
            for key in keys:
                self.assertRegex(sections[header], rf"(?m)^(?:# )?{key} = ", f"{header} {key}")

    def test_what_is_commented_out_is_the_default(self) -> None:
        """Every key in force makes the same settings, but for those that have no default."""
        given, full = (
            config.read(text, "m.toml", installed().kinds)
            for text in (EXAMPLE, _without_optional(uncommented(EXAMPLE)))
        )
        for name in ("listeners", "tls", "auth", "limits", "destinations", "routes", "http"):
            self.assertEqual(getattr(given, name), getattr(full, name), name)


def _without_optional(text: str) -> str:
    """Leave out what is an example and no default, and what may not be empty."""
    for line in (
        "concurrency = 10",
        'rate = "100/s"',
        'max_size = "10 MiB"',
        "deliver = []",
        'check_url = ""',
    ):
        assert f"\n{line}" in text, line
        text = text.replace(f"\n{line}", "\n#", 1)
    return text


class PageTests(SynchronousTestCase):
    def test_every_key_is_documented(self) -> None:
        for _, heading, keys in SECTIONS:
            self.assertIn(f"\n{heading}\n", PAGE)
            section = re.split(r"(?m)^##+ ", PAGE.partition(f"\n{heading}\n")[2])[0]
            documented = set(re.findall(r"(?m)^\| `([a-z0-9_]+)` \|", section))
            self.assertEqual(documented, set(keys), heading)

    def test_the_examples_load(self) -> None:
        blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        self.assertTrue(blocks)
        for block in blocks:
            tomllib.loads(block)
            self.assertEqual(config.read(block, "m.toml", installed().kinds).warnings, ())

    def test_the_problems_that_it_shows_are_real(self) -> None:
        [shown] = re.findall(r"```\n(mailsvc\.toml:.*?)```", PAGE, re.DOTALL)
        [block] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
        wrong = block.replace('"tcp:25"\n', '"tcp:25"\nrol = "mx"\n', 1).replace(
            'deliver = "app"', 'deliver = "ap"'
        )
        error = self.assertRaises(
            ConfigError, config.read, wrong, "mailsvc.toml", installed().kinds
        )
        self.assertEqual([*error.problems], shown.splitlines())


class UnitTests(SynchronousTestCase):
    @pytest.mark.needs("systemd-analyze")
    def test_systemd_accepts_the_units(self) -> None:
        for name in ("mailsvc.service", "mailsvc.socket"):
            done = subprocess.run(
                ["systemd-analyze", "verify", ROOT / "etc" / name],
                capture_output=True,
                text=True,
                check=False,
            )
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), name)

    @pytest.mark.needs("systemd-analyze")
    def test_systemd_accepts_the_units_of_several_processes(self) -> None:
        """Put together as docs/operation.md says."""
        place = Path(self.mktemp()).resolve()
        for name, source in (
            ("mailsvc@.service", "mailsvc.service"),
            ("mailsvc.socket", "mailsvc.socket"),
        ):
            drop_in = place / f"{name}.d" / "several.conf"
            drop_in.parent.mkdir(parents=True)
            shutil.copy(ROOT / "etc" / source, place / name)
            shutil.copy(ROOT / "etc" / "several" / f"{name}.conf", drop_in)
        done = subprocess.run(
            ["systemd-analyze", "verify", place / "mailsvc@1.service", place / "mailsvc.socket"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{place}:"},
        )
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_the_service_is_hardened(self) -> None:
        """Requirement 46: what it may do is little, and its files are its own."""
        unit = (ROOT / "etc" / "mailsvc.service").read_text("utf-8").splitlines()
        for line in (
            "User=mailsvc",
            "UMask=0077",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "PrivateTmp=yes",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ):
            self.assertIn(line, unit)
