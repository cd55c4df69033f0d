"""The worker process: mails come in on standard input, parsed mails leave on standard output.

Each message is a length (8 octets, big-endian) and that many octets: the mail itself one way, an
:data:`Answer` in msgpack the other way.  The process parses one mail at a time
under limits on processor time and address space, and dies of them; its parent makes another.  It
ends when its input does, so it does not outlive its parent.
"""

from __future__ import annotations

import resource
import struct
import sys
from typing import Any, BinaryIO, cast

import msgspec
from msgspec.structs import replace

from mailsvc.mime.limits import Limits
from mailsvc.mime.mail import parse
from mailsvc.mime.pieces import decoded, pieces
from mailsvc.parsed import ParsedMail

#: A mail without its ``text``, ``html`` and ``reply``, and these in pieces of UTF-8.
Answer = tuple[ParsedMail, tuple[list[bytes], list[bytes], list[bytes]]]

LENGTH = struct.Struct(">Q")

#: Address space for each octet of a mail: the mail, its decoded parts, text in up to four octets a
#: character, and the answer in msgpack.
_FACTOR = 10


def packed(mail: ParsedMail) -> Answer:
    """Return a parsed mail as it goes to the parent."""
    texts = tuple(
        [piece.encode("utf-8") for piece in pieces(text)]
        for text in (mail.text, mail.html, mail.reply)
    )
    return replace(mail, text="", html="", reply=""), cast(Any, texts)


def unpacked(answer: Answer) -> ParsedMail:
    """Return the mail of an answer."""
    mail, (text, html, reply) = answer
    return replace(mail, text=decoded(text), html=decoded(html), reply=decoded(reply))


def confine(size: int, limits: Limits) -> None:
    """Limit what the next mail may take: the process is killed, or finds no memory, beyond it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime) + 1
    _limit(resource.RLIMIT_CPU, spent + limits.cpu)
    try:
        with open("/proc/self/statm", "rb") as file:
            pages = int(file.read().split()[0])
    except OSError:
        # Not Linux: what is in use is not known, so no limit can be set on what is added.
        return
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.room + _FACTOR * size)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def serve(requests: BinaryIO, answers: BinaryIO, limits: Limits) -> None:
    """Parse mails until there are no more.

    :raises EOFError: the input ended within a mail.
    """
    encode = msgspec.msgpack.Encoder().encode
    while prefix := requests.read(LENGTH.size):
        (size,) = LENGTH.unpack(prefix)
        confine(size, limits)
        octets = requests.read(size)
        if len(octets) < size:
            raise EOFError
        answer = encode(packed(parse(octets, limits)))
        answers.write(LENGTH.pack(len(answer)))
        answers.write(answer)
        answers.flush()
        # A kept mail would count against the next one.
        del octets, answer


def main(arguments: list[str]) -> None:
    """Run as ``python -m mailsvc.mime.worker LIMITS`` (the limits in JSON)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limits = msgspec.json.decode(arguments[0], type=Limits)
    serve(sys.stdin.buffer, sys.stdout.buffer, limits)


if __name__ == "__main__":
    main(sys.argv[1:])
