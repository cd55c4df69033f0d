"""Where a run keeps what it builds and what the servers store; never in the tree."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: Readable by other users, because Postfix works as several.
DEFAULT = Path(os.environ.get("MAILSVC_BENCHMARKS", "/var/tmp/mailsvc-benchmarks"))

#: A file system in memory, where there is one.
_MEMORY = Path("/dev/shm")

_LIBRARIES = {"generator": ["-lssl", "-lcrypto"], "receiver": []}


class Missing(Exception):
    """Something that a measurement needs is not installed; the text says what."""


class Workplace:
    """A directory with compiled programs, installed peers and a place for each server.

    :param directory: on the disk that is to be measured.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.peers = directory / "peers"

    def compiled(self, name: str) -> Path:
        """Return the program built from ``NAME.c``, compiled anew if its source is newer.

        :raises Missing: there is no C compiler, or no OpenSSL to compile with.
        """
        source, program = HERE / f"{name}.c", self.directory / "bin" / name
        if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
            return program
        compiler = shutil.which("cc")
        if compiler is None:
            raise Missing("cc is not installed")
        program.parent.mkdir(exist_ok=True)
        words = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
        command = [*words, *_LIBRARIES[name]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{name}.c cannot be compiled (libssl-dev?): {done.stderr[-400:]}")
        return program

    @property
    def python(self) -> Path:
        """Return the Python of the peers' virtual environment.

        :raises Missing: it was not installed.
        """
        path = self.peers / "python" / "bin" / "python"
        if not path.exists():
            raise Missing("the Python peers are not installed (python -m benchmarks --install)")
        return path

    def node_modules(self, peer: str) -> Path:
        """Return where npm put a peer.

        :raises Missing: it was not installed, or there is no Node.js.
        """
        path = self.peers / peer / "node_modules"
        if not path.exists() or shutil.which("node") is None:
            raise Missing(f"{peer} is not installed (python -m benchmarks --install)")
        return path

    def fresh(self, name: str) -> Path:
        """Return an empty directory."""
        path = self.directory / "servers" / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        path.chmod(0o755)
        return path

    @property
    def memory(self) -> Path | None:
        """Return a directory in memory for this run; None: there is nowhere to have one."""
        if not (_MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)):
            return None
        return _MEMORY / f"mailsvc-benchmarks-{os.getpid()}"

    def certificate(self) -> tuple[Path, Path]:
        """Return a self-signed certificate and its key, of the kind that most servers have."""
        certificate, key = self.directory / "certificate.pem", self.directory / "key.pem"
        if not certificate.exists():
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]
                + ["-subj", "/CN=mx.example.com", "-addext", "subjectAltName=DNS:mx.example.com"]
                + ["-out", certificate, "-keyout", key],
                check=True,
                capture_output=True,
            )
        return certificate, key


def program(*names: str) -> str:
    """Return the path of an installed program, also one that only root's path has.

    :raises Missing: none of them is there.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise Missing(f"{' or '.join(names)} is not installed")


def twistd() -> list[str]:
    """Return the command of the twistd beside the Python that runs this.

    :raises Missing: mailsvc is not installed there.
    """
    path = Path(sys.executable).parent / "twistd"
    if not path.exists():
        raise Missing(f"no twistd beside {sys.executable}: install mailsvc there first")
    return [str(path)]


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
