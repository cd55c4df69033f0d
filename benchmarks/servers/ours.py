"""mailsvc, as ``twistd -n mailsvc --config FILE`` with its defaults, and logging to a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from benchmarks.servers.server import Server, files_below, set_aside
from benchmarks.workplace import HERE, Missing, twistd

_CONFIGURATION = """\
hostname = "mx.example.com"
spool = "{spool}"

[[listener]]
endpoint = "{endpoint}"
tls = "starttls"

[tls]
certificates = "{certificate}"

[limits]
connections = 20000
spool = "40 GiB"

[destination.app]
{destination}

[destination.held]
kind = "discard"

[[route]]
to = "*@example.com"
deliver = "app"

[[route]]
to = "*@held.example.com"
deliver = "held"
"""


_NOTING = HERE / "programs" / "noting_twistd.py"


@dataclass
class Notes:
    """What the processes of one server noted of themselves.

    :ivar groups: that the writer committed: of messages, claims, outcomes; each with its syncs.
    :ivar turns: of the reactors.
    :ivar waits: how often a thread gave up its core because it waited.
    :ivar collections: when a full collection of Python's garbage began, and how many seconds it
        took.
    """

    groups: int = 0
    turns: int = 0
    waits: int = 0
    collections: list[tuple[float, float]] = field(default_factory=list)


def installed(**environment: str) -> str:
    """Return whether mailsvc is ``compiled`` or ``not compiled``, as it says itself.

    :raises Missing: it is not installed.
    """
    program = Path(twistd()[0]).with_name("mailsvc")
    # From the root: no tree that happens to be the working directory answers in its place.
    done = subprocess.run(
        [program, "--version"],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().partition(", ")[2]


def plain_copy(package: Path, directory: Path) -> None:
    """Copy a package's source into a directory, anew and without what was compiled of it."""
    copy = directory / package.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))


class Ours(Server):
    """mailsvc with one route; the subclasses say where it leads.

    :cvar processes: how many share the spool and the port.
    :ivar plain: run the source, whatever is installed.
    """

    durable = True
    processes: ClassVar[int] = 1
    destination: str = 'kind = "discard"'
    plain: bool = False

    def environment(self) -> dict[str, str]:
        """Name the place of the source, where it is to run."""
        return {"PYTHONPATH": str(self.directory / "plain")} if self.plain else {}

    def commands(self) -> list[list[str]]:
        """Write the configuration."""
        if self.plain:
            plain_copy(HERE.parent / "mailsvc", self.directory / "plain")
        certificate, key = self.workplace.certificate()
        both = self.directory / "tls.pem"
        both.write_bytes(certificate.read_bytes() + key.read_bytes())
        both.chmod(0o600)
        self.configuration.write_text(
            _CONFIGURATION.format(
                spool=self.spool,
                endpoint=self.endpoint(),
                certificate=both,
                destination=self.destination.format(directory=self.directory),
            )
        )
        return [self.command()] * self.processes

    @property
    def configuration(self) -> Path:
        """Return the configuration file."""
        return self.directory / "mailsvc.toml"

    @property
    def spool(self) -> Path:
        """Return the spool's directory."""
        return self.directory / "spool"

    def endpoint(self) -> str:
        """Return where it listens."""
        return f"tcp:{self.port}:interface=127.0.0.1:backlog=1024"

    def command(self) -> list[str]:
        """Return the command of one process."""
        return [*twistd(), "-n", "--pidfile=", "mailsvc", "--config", str(self.configuration)]

    def operate(self, *words: str) -> str:
        """Run the ``mailsvc`` command on it, and return what it printed."""
        program = Path(sys.executable).with_name("mailsvc")
        done = subprocess.run(
            [program, *words, "--config", self.configuration],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def counted(self) -> int | None:
        """Return how many deliveries the log tells of."""
        with open(self.output, "rb") as log:
            log.seek(self._mark)
            return len(re.findall(rb" delivered [0-9a-zA-Z-]+ from=", log.read()))

    _mark = 0

    def clear(self) -> None:
        """Count from here."""
        self._mark = self.output.stat().st_size


class OursDiscarding(Ours):
    """The whole way, to a destination that forgets."""

    key, title = "ours", "mailsvc"


class OursPlain(OursDiscarding):
    """The same source, not compiled, beside a compiled one."""

    key, title = "ours-plain", "mailsvc, not compiled"
    plain = True

    def commands(self) -> list[list[str]]:
        """See that there are two kinds to compare.

        :raises Missing: what is installed is not compiled.
        """
        commands = super().commands()
        if installed() != "compiled":
            raise Missing("that is what is installed")
        assert installed(**self.environment()) == "not compiled"
        return commands


class OursApart(OursDiscarding):
    """Another one, with a spool and a port of its own."""

    key = "ours-apart"


class OursInMemory(OursDiscarding):
    """The whole way, but with a spool in memory, where there is a place for one."""

    key, title = "ours-memory", "mailsvc, spool in memory"

    @property
    def spool(self) -> Path:
        """Return the spool's directory, in memory if that can be."""
        memory = self.workplace.memory
        return memory / self.key if memory else super().spool

    def stop(self) -> None:
        """Give the memory back."""
        super().stop()
        shutil.rmtree(self.spool, ignore_errors=True)
        # The last one takes the directory of all with it.
        with suppress(OSError):
            self.spool.parent.rmdir()


class OursInMemoryToo(OursInMemory):
    """A second one."""

    key = "ours-memory-2"


class _Noting(Ours):
    """One that notes what can be seen from within only: collections, and the writer's groups."""

    def environment(self) -> dict[str, str]:
        """Say where."""
        return {**super().environment(), "MAILSVC_NOTES": str(self.directory / "notes")}

    def noting(self, words: list[str]) -> list[str]:
        """Return a command of twistd, with the program that notes in its place."""
        where = words.index(twistd()[0])
        return [*words[:where], sys.executable, str(_NOTING), *words[where + 1 :]]

    def notes(self) -> Notes:
        """Return what the processes have noted; after :meth:`stop`."""
        found = Notes()
        for path in self.directory.glob("notes.*"):
            noted = json.loads(path.read_text())
            found.groups += noted["groups"]
            found.turns += noted["turns"]
            found.waits += noted["waits"]
            found.collections += [(when, seconds) for when, seconds in noted["collections"]]
        return found


class OursNoting(_Noting, OursInMemory):
    """As the one in memory, and notes."""

    key, title = "ours-noting", "mailsvc, spool in memory"

    def command(self) -> list[str]:
        """Return the command of the program that notes."""
        return self.noting(super().command())


class OursInMaildir(Ours):
    """The whole way, to a maildir."""

    key, title = "ours-maildir", "mailsvc, maildir"
    destination = 'kind = "maildir"\npath = "{directory}/maildir"'

    def stored(self) -> Iterator[bytes]:
        """Return the files of the maildir."""
        return (path.read_bytes() for path in files_below(self.directory / "maildir" / "new"))

    def counted(self) -> int | None:
        """Return how many files there are."""
        return sum(1 for _ in files_below(self.directory / "maildir" / "new"))

    def clear(self) -> None:
        """Remove them."""
        set_aside(self.directory / "maildir")


class OursTwice(Ours):
    """Two processes that share a spool, and a port as systemd passes one."""

    key, title = "ours-twice", "mailsvc, two processes"
    processes = 2

    def endpoint(self) -> str:
        """Return the socket that was passed."""
        return "systemd:domain=INET:index=0"

    def commands(self) -> list[list[str]]:
        """Open the port."""
        self._door = socket.socket()
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._door.bind(("127.0.0.1", self.port))
        self._door.listen(1024)
        return super().commands()

    def inherited(self) -> tuple[int, ...]:
        """Return the port."""
        return (self._door.fileno(),)

    def command(self) -> list[str]:
        """Say what systemd would: descriptor 3 is a listening socket for this process."""
        program = 'exec 3<&{0}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=smtp; exec "$@"'
        words = program.replace("{0}", str(self._door.fileno()))
        return ["sh", "-c", words, "sh", *super().command()]

    def stop(self) -> None:
        """Close the port, too."""
        super().stop()
        self._door.close()


class OursOnceNoting(_Noting, OursDiscarding):
    """One process, which notes."""

    key = "ours-once-noting"

    def command(self) -> list[str]:
        """Return the command of the program that notes."""
        return self.noting(super().command())


class OursTwiceNoting(_Noting, OursTwice):
    """Two processes, which note."""

    key = "ours-twice-noting"

    def command(self) -> list[str]:
        """Return the command of the program that notes."""
        return self.noting(super().command())


class OursPosting(Ours):
    """The whole way, to a webhook with the format ``mailsvc``."""

    key, title = "ours-webhook", "mailsvc, webhook (mailsvc JSON)"
    url = ""

    def commands(self) -> list[list[str]]:
        """Name the receiver."""
        self.destination = (
            f'kind = "webhook"\nurl = "{self.url}"\nallow_private = true\nconcurrency = 50'
        )
        return super().commands()


class OursBehindBacklog(Ours):
    """As the plain one; the measurement fills its spool first."""

    key, title = "ours-backlog", "mailsvc, with a backlog"
