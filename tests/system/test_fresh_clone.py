"""The README's commands, on a fresh clone and with an environment that they make themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.floors import ROOT
from tests.system.harness import LISTENING, SystemTestCase, Timeout, until
from tests.test_docs import RUN, SHELL, TEST

#: Seconds for an installation.
LONG = 600.0


@pytest.mark.proof
@pytest.mark.needs("git", "curl")
class FreshCloneTests(SystemTestCase):
    """One command installs and runs, one runs the tests."""

    def setUp(self) -> None:
        super().setUp()
        # Whoever owns the clone that CI made: reading it is all that is done here.
        trusting = self.write("gitconfig", "[safe]\n\tdirectory = *\n")
        self.run_program(
            *("git", "clone", "--quiet", str(ROOT), "clone"),
            environment={"GIT_CONFIG_GLOBAL": str(trusting)},
        )
        self.clone = self.directory / "clone"
        self.commands = "\n".join(SHELL.findall((ROOT / "README.md").read_text("utf-8")))

    def environment(self) -> dict[str, str]:
        """Return the environment without a trace of the one that the tests run in."""
        folders = os.environ["PATH"].split(os.pathsep)
        own = str(Path(sys.executable).parent)
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("VIRTUAL_ENV", "PYTHONPATH", "CI")
            and not name.startswith(("COVERAGE_", "COV_", "PYTEST_"))
        }
        return {
            **kept,
            "PATH": os.pathsep.join(folder for folder in folders if folder != own),
            "PYTHONUNBUFFERED": "1",
        }

    def shell(self, command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start a command line in the clone, in a process group of its own."""
        with output.open("wb") as sink:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.clone,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.addCleanup(process.wait)
        self.addCleanup(self.end, process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)

    def test_the_readme(self) -> None:
        output = self.directory / "output"
        running = self.shell(RUN, output)

        def listening() -> bool:
            if running.poll() is not None:
                raise Timeout(output.read_text("utf-8"))
            return LISTENING.search(output.read_text("utf-8")) is not None

        until(listening, "the service to listen", LONG)
        (try_it,) = [line for line in self.commands.splitlines() if "curl " in line]
        self.run_program("bash", "-c", try_it)
        (filed,) = self.in_maildir(1, self.clone / "maildir")
        self.assertTrue(filed.endswith(b"\nSubject: Hello\n\nIt works.\n"), filed)
        for name in ("route", "queue"):
            arguments = ["you@example.com"] if name == "route" else []
            self.run_program(
                str(self.clone / ".venv/bin/mailsvc"),
                *(name, "--spool", str(self.clone / "mailsvc-data"), *arguments),
            )
        os.killpg(running.pid, signal.SIGTERM)
        running.wait()

        tested = self.directory / "tested"
        testing = self.shell(f"{TEST} tests/test_layers.py tests/test_docs.py", tested)
        self.assertEqual(testing.wait(LONG), 0, tested.read_text("utf-8"))
        self.assertRegex(tested.read_text("utf-8"), r"\d+ passed")
