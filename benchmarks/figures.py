"""The figures of all sections, kept until the page is written."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.disk import sync_rate
from benchmarks.sections.run import Section
from benchmarks.servers.ours import installed
from benchmarks.workplace import HERE, Missing, Workplace


class Figures:
    """A JSON document with what each section last measured.

    :ivar document: ``machine`` and ``sections``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.document: dict[str, Any] = {"machine": {}, "sections": {}}
        self._read()

    def add(self, name: str, section: Section, workplace: Workplace) -> None:
        """Keep a section's figures in place of its earlier ones."""
        # A soak may have been writing its own meanwhile.
        self._read()
        self.document["machine"] = machine(workplace)
        self.document["sections"][name] = {
            "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
            "commit": _commit(),
            "load": os.getloadavg()[1],
            "rows": [asdict(row) for row in section.rows],
            "values": section.values,
            "notes": section.notes,
            "remarks": section.remarks,
        }
        self._path.write_text(json.dumps(self.document, indent=1, ensure_ascii=False) + "\n")

    def _read(self) -> None:
        if self._path.exists():
            self.document = json.loads(self._path.read_text())


def machine(workplace: Workplace) -> dict[str, Any]:
    """Return what it was measured on."""
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory, GiB": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "kernel": platform.release(),
        "file system": _file_system(workplace.directory),
        "synced 10 KiB writes/s": round(sync_rate(workplace.directory)),
        "mailsvc": _mailsvc(),
        "versions": _versions(workplace),
    }


def _mailsvc() -> str:
    try:
        return installed()
    except Missing:
        return "not installed"


def _versions(workplace: Workplace) -> dict[str, str]:
    versions = {"Python": platform.python_version()}
    for name in ("mailsvc", "Twisted"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    for name, words in {
        "Postfix": ["postconf", "-dh", "mail_version"],
        "Node.js": ["node", "--version"],
    }.items():
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            versions[name] = done.stdout.strip().lstrip("v")
        except (OSError, subprocess.CalledProcessError):
            continue
    for package in workplace.peers.glob("python/lib/python*/site-packages/*.dist-info"):
        name, _, number = package.name.removesuffix(".dist-info").partition("-")
        if name in ("aiosmtpd", "aiohttp"):
            versions[name] = number
    for peer, name in {
        "nodemailer": "smtp-server",
        "haraka": "Haraka",
        "undici": "undici",
        "mailparser": "mailparser",
    }.items():
        where = "undici" if peer == "mailparser" else peer
        path = workplace.peers / where / "node_modules" / name / "package.json"
        if path.exists():
            versions[name] = json.loads(path.read_text())["version"]
    return versions


def _file_system(directory: Path) -> str:
    words = ["stat", "-f", "-c", "%T", str(directory)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def _commit() -> str:
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()
