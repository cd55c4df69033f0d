"""A real ``twistd mailsvc`` in a directory of its own, for tests that speak to it from outside.

Nothing here waits for a length of time: each wait is for something that happens, with a deadline
that only a failure reaches.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SynchronousTestCase

#: Seconds after which a wait has failed.
DEADLINE = 60.0

#: Where the commands of the environment under test are.
PROGRAMS = Path(sys.executable).parent

#: twistd, or where coverage is measured the same with its figures saved.
TWISTD = (
    [sys.executable, "-P", str(Path(__file__).with_name("measured.py"))]
    if "COVERAGE_PROCESS_CONFIG" in os.environ
    else [str(PROGRAMS / "twistd")]
)

LISTENING = re.compile(r"listening on (\[\S+\]|[^\s:]+):(\d+)\b")


class Timeout(AssertionError):
    """What was waited for did not happen; the text holds what the service printed."""


class Server:
    """One ``twistd -n mailsvc`` process and what it prints.

    :ivar directory: where it runs; the spool is below it unless the arguments say otherwise.
    :ivar lines: what it has printed so far, both streams.
    :ivar descriptors: what it inherits beside the standard streams.
    :ivar options: those of twistd itself.
    """

    def __init__(
        self, directory: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> None:
        self.directory = directory
        self.arguments = arguments
        self.environment = environment or {}
        self.lines: list[str] = []
        self.descriptors: Sequence[int] = ()
        self.options: Sequence[str] = ()
        self._news = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._ended = True
        self._reader: threading.Thread | None = None

    def start(self, listeners: int = 1, prefix: Sequence[str] = ()) -> Server:
        """Start the service and return once it listens.

        :param listeners: how many TCP listeners are to say so.
        :param prefix: a command to run it under, such as strace.
        """
        self.launch(prefix)
        self.wait(lambda: len(self.addresses()) >= listeners, "the listeners")
        return self

    def launch(self, prefix: Sequence[str] = ()) -> Server:
        """Start the service without waiting for anything."""
        self.lines = []
        self._ended = False
        self._process = subprocess.Popen(
            [*prefix, *TWISTD, "-n", "--pidfile=", *self.options, "mailsvc", *self.arguments],
            cwd=self.directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=self.descriptors,
            text=True,
            errors="backslashreplace",
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()
        return self

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        """Return all that it has printed."""
        with self._news:
            return "\n".join(self.lines)

    @property
    def running(self) -> bool:
        """Say whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Return the process id of what was launched."""
        assert self._process is not None
        return self._process.pid

    def addresses(self) -> list[tuple[str, int]]:
        """Return host and port of each TCP listener, in the order in which they were announced."""
        with self._news:
            return [
                (found[1].strip("[]"), int(found[2]))
                for line in self.lines
                if (found := LISTENING.search(line))
            ]

    @property
    def port(self) -> int:
        """Return the port of the first listener."""
        return self.addresses()[0][1]

    def ports(self) -> list[int]:
        """Return the listeners' ports in the order in which they were announced."""
        return [port for _, port in self.addresses()]

    def wait(self, happened: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
        """Return as soon as ``happened`` is true; it is asked after each printed line.

        :raises Timeout: it is not true by the deadline, or the service has ended.
        """
        end = time.monotonic() + deadline
        with self._news:
            while not happened():
                left = end - time.monotonic()
                if self._ended or left <= 0:
                    ending = "has ended" if self._ended else f"has run for {deadline:.0f} s"
                    raise Timeout(
                        f"waiting for {what}, the service {ending}:\n" + "\n".join(self.lines)
                    )
                self._news.wait(min(left, 0.25))

    def wait_for(self, pattern: str, count: int = 1, since: int = 0) -> list[str]:
        """Return the lines that match ``pattern`` once there are ``count`` of them.

        :param since: the number of lines to pass over.
        """
        expression = re.compile(pattern)

        def found() -> list[str]:
            return [line for line in self.lines[since:] if expression.search(line)]

        self.wait(lambda: len(found()) >= count, f"{count} lines of {pattern!r}")
        return found()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def join(self, deadline: float = DEADLINE) -> int:
        """Return the exit status once the process has ended.

        :raises Timeout: it runs on past the deadline.
        """
        assert self._process is not None and self._reader is not None
        try:
            status = self._process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise Timeout(f"the service does not end:\n{self.output}") from None
        self._reader.join(deadline)
        return status

    def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.join()

    def stop(self) -> None:
        """End it in good order.

        :raises AssertionError: it ended otherwise.
        """
        self.signal(signal.SIGTERM)
        self.has_stopped()

    def has_stopped(self) -> None:
        """Wait for the end that SIGTERM brings about: twistd says so, then lets itself be killed.

        :raises AssertionError: it ended otherwise.
        """
        status = self.join()
        if status != -signal.SIGTERM or "Server Shut Down" not in self.output:
            raise AssertionError(f"it ended with {status}:\n{self.output}")

    def close(self) -> None:
        """Make sure that nothing of it is left, whatever the test did."""
        if self._process is None or self._process.poll() is not None:
            return
        try:
            self.stop()
        except Timeout:
            self.kill()
            raise


def until(happened: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Return as soon as ``happened`` is true, for what announces itself to nobody (a file).

    :raises Timeout: it is not true by the deadline.
    """
    end = time.monotonic() + deadline
    while not happened():
        if time.monotonic() > end:
            raise Timeout(f"waited for {what}")
        time.sleep(0.02)


def maildir_files(maildir: Path) -> Iterator[Path]:
    """Yield the finished files of a maildir."""
    new = maildir / "new"
    if new.is_dir():
        yield from sorted(new.iterdir())


class SystemTestCase(SynchronousTestCase):
    """A test with a directory, and with servers that end with it."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)

    def server(self, *arguments: str, **environment: str) -> Server:
        """Return a server that is not started yet and is ended after the test."""
        server = Server(self.directory, *arguments, environment=environment)
        self.addCleanup(server.close)
        return server

    def quick(self, *arguments: str) -> Server:
        """Return a started server without a configuration file, on a port of the system's."""
        return self.server("--listen", "tcp:0:interface=127.0.0.1", *arguments).start()

    def configured(self, text: str, listeners: int = 1, **environment: str) -> Server:
        """Return a started server that runs the given configuration."""
        path = self.write("mailsvc.toml", text)
        return self.server("--config", str(path), **environment).start(listeners)

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        """Write a file into the test's directory and return its path."""
        path = self.directory / name
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def run_program(
        self,
        *command: str,
        stdin: str | bytes = b"",
        status: int | None = 0,
        environment: dict[str, str] | None = None,
        deadline: float = DEADLINE,
    ) -> str:
        """Run a program in the test's directory and return what it printed, both streams.

        :param status: the exit status that it is to have, or None for any.
        """
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, **(environment or {})},
            input=stdin.encode("utf-8") if isinstance(stdin, str) else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=deadline,
            check=False,
        )
        printed = done.stdout.decode("utf-8", "backslashreplace")
        if status is not None and done.returncode != status:
            self.fail(f"{command[0]} ended with {done.returncode}, not {status}:\n{printed}")
        return printed

    def mailsvc(self, *arguments: str, stdin: str = "", status: int | None = 0) -> str:
        """Run the ``mailsvc`` command of the environment under test."""
        return self.run_program(str(PROGRAMS / "mailsvc"), *arguments, stdin=stdin, status=status)

    def in_maildir(self, count: int, maildir: Path | None = None) -> list[bytes]:
        """Return the contents of a maildir's new mails once there are ``count`` of them."""
        place = maildir or self.directory / "maildir"
        until(lambda: len(list(maildir_files(place))) >= count, f"{count} mails in {place}")
        return [path.read_bytes() for path in maildir_files(place)]
