"""The HTTP receiver of the webhook measurements."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Iterator

from benchmarks.workplace import Workplace, free_port


class Receiver:
    """Answers 204 to every POST and keeps the bodies, as a context."""

    def __init__(self, workplace: Workplace) -> None:
        self._program = workplace.compiled("receiver")
        self._file = workplace.fresh("receiver") / "bodies"
        self._port = free_port()
        self._offset = self._before = 0

    @property
    def url(self) -> str:
        """Return where to post."""
        return f"http://127.0.0.1:{self._port}/"

    def __enter__(self) -> Receiver:
        self._process = subprocess.Popen([self._program, str(self._port), self._file])
        deadline = time.monotonic() + 10
        while True:
            try:
                self._all()
                return self
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._file.unlink()

    def _all(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", "/")
        count = int(connection.getresponse().read())
        connection.close()
        return count

    def count(self) -> int:
        """Return how many bodies came since :meth:`forget`."""
        return self._all() - self._before

    def bodies(self) -> Iterator[bytes]:
        """Return them."""
        self._all()
        with open(self._file, "rb") as file:
            file.seek(self._offset)
            while length := file.read(4):
                yield file.read(int.from_bytes(length, "big"))

    def forget(self) -> None:
        """Begin anew."""
        self._before = self._all()
        self._offset = self._file.stat().st_size
