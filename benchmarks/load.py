"""What the generator is to send, and what it measured."""

from __future__ import annotations

import itertools
import json
import subprocess
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from benchmarks.workplace import Workplace

_RUNS = itertools.count(1)


class LoadFailed(Exception):
    """The generator did not get its messages through; the text is what it said."""


@dataclass(frozen=True)
class Load:
    """One run of the generator; the fields are its options.

    :ivar per_connection: messages on a connection; 0: all.
    :ivar apart: milliseconds from one session's connection to the next's.
    :ivar rate: messages begun per second, whatever the server does; 0: as fast as it takes them.
    :ivar seconds: after which no message is begun; 0: when there are ``messages``.
    """

    sessions: int = 20
    messages: int = 1000
    size: int = 10240
    per_connection: int = 0
    apart: float = 0
    rate: float = 0
    seconds: float = 0
    recipients: int = 1
    tls: str = ""
    to: str = "bench@example.com"
    pipelined: bool = False
    dots: bool = False
    multipart: bool = False

    def arguments(self) -> list[str]:
        """Return them as the generator's command line has them."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default or field.name in ("sessions", "messages"):
                words.append(f"--{field.name.replace('_', '-')}")
                if value is not True:
                    words.append(str(value))
        return words


@dataclass(frozen=True)
class Outcome:
    """What the generator saw; times are in milliseconds.

    :ivar lost: numbers of the messages that got no 250.
    :ivar seconds: from the first MAIL to the last 250.
    """

    prefix: str
    acknowledged: int
    begun: int
    seconds: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    lost: list[int]


def send(workplace: Workplace, port: int, load: Load, patience: float = 60) -> Outcome:
    """Run the generator against a port of this machine.

    :raises LoadFailed: a message got no 250.
    """
    prefix = f"run{next(_RUNS):06d}"
    done = subprocess.run(
        [str(workplace.compiled("generator")), "--port", str(port), "--prefix", prefix]
        + ["--patience", str(patience), *load.arguments()],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LoadFailed((done.stderr + done.stdout)[-1000:])
    return Outcome(prefix=prefix, **json.loads(done.stdout))


class IdleConnections:
    """Connections that have said EHLO and stay open, as a context."""

    def __init__(self, workplace: Workplace, port: int, count: int, tls: str = "") -> None:
        self._command: list[str | Path] = [workplace.compiled("generator"), "--idle"]
        self._command += ["--port", str(port), "--sessions", str(count)]
        if tls:
            self._command += ["--tls", tls]

    def __enter__(self) -> IdleConnections:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self._process.wait()
            raise LoadFailed("the idle connections were not all taken")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("\n")


@cache
def _template(generator: Path, load: Load, prefix: str) -> bytes:
    words = [str(generator), "--print", "--prefix", prefix, *load.arguments()]
    return subprocess.run(words, capture_output=True, check=True).stdout


def message(workplace: Workplace, load: Load, prefix: str, number: int) -> bytes:
    """Return a message as it is to be stored: the octets that were sent, dots taken out."""
    template = _template(workplace.compiled("generator"), load, prefix)
    return template.replace(f"{prefix}-00000000".encode(), f"{prefix}-{number:08d}".encode())
