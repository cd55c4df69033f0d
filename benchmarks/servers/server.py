"""What every server under measurement has: a start, an end, a bill, and what it stored."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from benchmarks import accounting
from benchmarks.workplace import Workplace, free_port

#: Seconds that a server gets to start, or to end.
_PATIENCE = 30.0

#: A server is at rest once it used less than this part of a core for three looks in a row.
_REST, _LOOK = 0.05, 0.15


class ServerFailed(Exception):
    """A server did not start, or died; the text holds the end of what it printed."""


class Server:
    """One server in a directory of its own.

    :cvar key: its name on the command line and in the figures.
    :cvar title: its name in the tables.
    :cvar durable: whether a message is on stable storage before its 250.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    durable: ClassVar[bool]

    def __init__(self, workplace: Workplace) -> None:
        self.workplace = workplace
        self.directory = workplace.fresh(self.key)
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    # What each kind of server says for itself.

    def commands(self) -> list[list[str]]:
        """Write the configuration, and return the command line of each process."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what its processes' environment has beside ours."""
        return {}

    def stored(self) -> Iterator[bytes] | None:
        """Return the mails that it stored since :meth:`clear`; None if it keeps none."""
        return None

    def counted(self) -> int | None:
        """Return how many mails it says it has delivered since :meth:`clear`; None if unsaid."""
        return None

    def clear(self) -> None:
        """Remove what it stored."""

    # What is the same for all.

    @property
    def output(self) -> Path:
        """Return the file of what it prints."""
        return self.directory / "output"

    @property
    def pids(self) -> list[int]:
        """Return its processes, without their children."""
        return [each.pid for each in self._processes]

    def start(self) -> None:
        """Start it, and return once it greets.

        :raises ServerFailed: it does not.
        """
        commands = self.commands()
        with open(self.output, "ab") as output:
            for words in commands:
                self._processes.append(
                    subprocess.Popen(
                        words,
                        cwd=self.directory,
                        env={**os.environ, **self.environment()},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                        pass_fds=self.inherited(),
                    )
                )
        deadline = time.monotonic() + _PATIENCE
        while not self._greets():
            ended = any(each.poll() is not None for each in self._processes)
            if ended or time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"{self.title} does not start: {self.last_words()}")
            time.sleep(0.1)
        self.rest()

    def inherited(self) -> tuple[int, ...]:
        """Return the descriptors that its processes inherit."""
        return ()

    def last_words(self) -> str:
        """Return the end of what it printed."""
        return self.output.read_text("utf-8", "replace")[-1500:]

    def stop(self) -> None:
        """End it and whatever it started."""
        below = accounting.descendants(self.pids)
        for each in self._processes:
            if each.poll() is None:
                each.terminate()
        for each in self._processes:
            try:
                each.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
        for pid in below:
            if pid not in self.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._processes = []

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu(self) -> float:
        """Return the CPU seconds that it has used, its children included."""
        return accounting.cpu_seconds(self.pids)

    def rest(self, deadline: float = 600) -> None:
        """Return once it has nothing to do any more.

        :raises ServerFailed: it does not come to rest.
        """
        end, quiet, before = time.monotonic() + deadline, 0, self.cpu()
        while quiet < 3:
            if time.monotonic() > end:
                raise ServerFailed(f"{self.title} does not come to rest")
            time.sleep(_LOOK)
            now = self.cpu()
            quiet = quiet + 1 if now - before <= _REST * _LOOK + 0.011 else 0
            before = now

    def alive(self) -> None:
        """Say so if it has died.

        :raises ServerFailed: it has.
        """
        if any(each.poll() is not None for each in self._processes):
            raise ServerFailed(f"{self.title} has died: {self.last_words()}")

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as probe:
                probe.settimeout(5)
                greeting = probe.recv(512)
                probe.sendall(b"QUIT\r\n")
                probe.recv(512)
                return greeting.startswith(b"220")
        except OSError:
            return False


def files_below(directory: Path) -> Iterator[Path]:
    """Yield the finished files below a directory, those of a maildir's new/ included."""
    for root, names, files in os.walk(directory):
        if "tmp" in names:
            names.remove("tmp")
        for name in files:
            yield Path(root) / name


def set_aside(directory: Path) -> None:
    """Take the files below a directory away; the directories stay.

    They are moved, not removed: ext4 without a journal looks, for minutes, at each inode that was
    freed before it gives out another, and the next round's files would be made ten times slower.
    """
    aside = directory.with_name(f"{directory.name}-aside")
    aside.mkdir(exist_ok=True)
    first = sum(1 for _ in aside.iterdir())
    for number, path in enumerate(files_below(directory), first):
        with suppress(FileNotFoundError):
            path.rename(aside / str(number))
