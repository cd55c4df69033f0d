"""The parts of a delivery: a mail parsed, its payload made and signed; a file in a maildir."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import cast

from benchmarks.parts.measuring import least
from benchmarks.servers.server import set_aside
from mailsvc.deliverers.maildir import MaildirFiles
from mailsvc.deliverers.pathnames import PathTemplate
from mailsvc.deliverers.webhook.formats.mailsvc import Mailsvc
from mailsvc.deliverers.webhook.payload import FormatOptions, Stream
from mailsvc.deliverers.webhook.signing import HmacKey, signature_headers
from mailsvc.interfaces import IContent
from mailsvc.mime.limits import Limits
from mailsvc.mime.mail import parse
from mailsvc.testing.fakes import MemoryContent, make_delivery

PARSING = "parsing a multipart mail of 10 KiB"
PAYLOAD = "the JSON payload"
SIGNING = "its signature"
FILE = "a file of 10 KiB: open, write, rename, close, by nobody's rules"
FILING = "a file in a maildir, groups of 20, synced"

_HEAD = (
    b"From: Bench <sender@example.org>\r\nTo: <bench@example.com>\r\nSubject: a mail\r\n"
    b"Message-ID: <1@example.org>\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMIME-Version: 1.0\r\n"
)
_TEXT = (b"the words of a mail as people write them, in lines like this one and so on\r\n") * 65
_MAIL = (
    _HEAD
    + b'Content-Type: multipart/alternative; boundary="=_b"\r\n\r\n'
    + b"--=_b\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    + _TEXT
    + b"--=_b\r\nContent-Type: text/html; charset=us-ascii\r\n\r\n<p>"
    + _TEXT
    + b"--=_b--\r\n"
)
_GROUP = 20


def measure(directory: Path, runs: int) -> dict[str, float]:
    """Return what the parts take, by name."""
    content = cast(IContent, MemoryContent(_MAIL))
    delivery = make_delivery(size=len(_MAIL))
    options = FormatOptions("https://app.example.com/", "mx.example.com", time.time, 1 << 20)
    limits, format, key = Limits(), Mailsvc(), HmacKey(bytes(32))
    mail = parse(_MAIL, limits)
    body = format.payload(delivery, content, mail, options).body
    assert not isinstance(body, Stream)

    def parsing() -> None:
        for _ in range(20):
            parse(_MAIL, limits)

    def making() -> None:
        for _ in range(20):
            format.payload(delivery, content, mail, options)

    def signing() -> None:
        for _ in range(20):
            signature_headers((key,), delivery.id, 1_700_000_000, body)

    return {
        PARSING: least(parsing, 20, runs),
        PAYLOAD: least(making, 20, runs),
        SIGNING: least(signing, 20, runs),
        **_files(directory, runs),
    }


def _files(directory: Path, runs: int) -> dict[str, float]:
    for name in ("tmp", "new"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    # Files that are removed make new ones slow.
    set_aside(directory)
    files = MaildirFiles(PathTemplate(str(directory), "mx.example.com"), "mx.example.com")
    content = cast(IContent, MemoryContent(_MAIL))
    numbers = iter(range(1 << 30))

    def bare() -> None:
        for _ in range(_GROUP):
            name = f"bare-{next(numbers)}"
            temporary = f"{directory}/tmp/{name}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, _MAIL)
            os.rename(temporary, f"{directory}/new/{name}")
            os.close(descriptor)

    def filing() -> None:
        group = [(make_delivery(id=f"0001-{next(numbers)}"), content) for _ in range(_GROUP)]
        failures = [each for each in files.store(group) if each is not None]
        if failures:
            raise failures[0]

    return {FILE: least(bare, _GROUP, runs), FILING: least(filing, _GROUP, runs)}
