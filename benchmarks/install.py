"""The peers, from Debian, PyPI and npm, each in a directory of its own below the workplace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.workplace import Workplace

_DEBIAN = ("gcc", "libc6-dev", "libssl-dev", "openssl", "curl", "postfix")
_PYPI = ("aiosmtpd", "aiohttp", "twisted[tls]", "py-spy")
_NPM = {
    "nodemailer": ("smtp-server",),
    "undici": ("undici", "mailparser"),
    "haraka": ("Haraka",),
}


def install(workplace: Workplace) -> None:
    """Install what can be; what cannot is said, and left out of the tables with a note."""
    _step("Debian", _debian)
    python = workplace.peers / "python"
    _step("PyPI", partial(_pypi, python))
    for peer, packages in _NPM.items():
        _step(f"npm: {peer}", partial(_npm, workplace.peers / peer, packages))


def _step(what: str, work: Callable[[], None]) -> None:
    try:
        work()
        print(f"{what}: installed")
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{what}: not installed: {error}", file=sys.stderr)


def _run(
    *words: str | Path, where: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    subprocess.run(words, cwd=where, env={**os.environ, **(environment or {})}, check=True)


def _debian() -> None:
    if os.geteuid():
        raise PermissionError(f"only root can; these have to be there: {', '.join(_DEBIAN)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    # Nothing that is installed here is to start a service.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        _run("apt-get", "-qq", "update", environment=quiet)
        words = ("apt-get", "-qq", "install", "--yes", "--no-install-recommends")
        _run(*words, *_DEBIAN, environment=quiet)
    finally:
        if ours:
            policy.unlink()


def _pypi(directory: Path) -> None:
    if not (directory / "bin" / "python").exists():
        _run(sys.executable, "-m", "venv", directory)
    _run(directory / "bin" / "pip", "install", "--quiet", *_PYPI)


def _npm(directory: Path, packages: tuple[str, ...]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not there")
    directory.mkdir(parents=True, exist_ok=True)
    # Haraka's native modules are optional, and need headers that are not always there.
    words = ("install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund")
    _run(npm, *words, "--prefix", directory, *packages, where=directory)
