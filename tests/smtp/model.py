"""A reference model of the session: the rules once more, written simply, slowly and apart.

It reads a whole input at once, one octet after the other, and says what the replies are (code and
enhanced code) and what the owner is told.  It knows only the addresses, parameters and names that
the generator of the tests uses; everything else about order, limits, framing and content is here.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

GOOD_HOSTS = ("client.example", "[192.0.2.1]")
BAD_HOSTS = ("", "two words", "<x>")
GOOD_PATHS = {"<a@example.org>": "<a@example.org>", "<B.c+d@example.com>": "<B.c+d@example.com>"}
REFUSED = "<no@example.com>"
UTF8_PATH = "<jörg@example.com>"
BAD_PATHS = ("<a@b@c>", "a@example.org", "<.a@example.org>", "")


@dataclass(frozen=True)
class Rules:
    """The part of the policy that the model knows."""

    lmtp: bool = False
    size: int = 40
    header: int = 30
    recipients: int = 2
    hops: int = 1
    bad: int = 6
    messages: int = 0
    repair: bool = False
    auth: bool = True


@dataclass
class Model:
    """Reads one input."""

    rules: Rules
    replies: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    greeted: bool = False
    extended: bool = False
    sender: bool = False
    recipients: int = 0
    utf8: bool = False
    binary: bool = False
    chunks: list[bytes] | None = None
    spoilt: bool = False
    dropped: bool = False
    authenticated: bool = False
    failures: int = 0
    transactions: int = 0
    bad: int = 0
    over: bool = False

    # Reading

    def read(self, octets: bytes) -> None:
        while octets and not self.over:
            line, octets = self.line(octets)
            if line is None:
                return
            octets = self.command(line, octets)

    def line(self, octets: bytes) -> tuple[bytes | None, bytes]:
        """Return a line without its CRLF, or None if it is not complete or broke the rules."""
        for index, octet in enumerate(octets):
            before = octets[index - 1] if index else None
            if octet == 10 and before == 13:
                return octets[: index - 1], octets[index + 1 :]
            if octet == 10 or before == 13:
                self.close("500 5.5.2")
                return None, b""
        return None, b""

    def command(self, line: bytes, rest: bytes) -> bytes:
        """Do one command; return the input behind it and its content."""
        if len(line) + 2 > (12288 if line[:5].upper() == b"AUTH " else 2048):
            self.wrong("500 5.5.2")
            return rest
        line = line.rstrip(b" \t")
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if verb in (b"GET", b"POST"):
            self.close("421 4.7.0")
        elif verb in (b"EHLO", b"HELO", b"LHLO"):
            self.hello(verb, argument)
        elif verb == b"MAIL":
            self.mail(argument)
        elif verb == b"RCPT":
            self.rcpt(argument)
        elif verb == b"DATA":
            return self.data(argument, rest)
        elif verb == b"BDAT":
            return self.bdat(argument, rest)
        elif verb == b"AUTH":
            return self.auth(argument, rest)
        elif verb == b"RSET":
            if argument:
                self.wrong("501 5.5.4")
            else:
                self.reset()
                self.reply("250 2.0.0")
        elif verb == b"NOOP":
            self.reply("250 2.0.0")
        elif verb == b"VRFY":
            if argument:
                self.reply("252 2.5.0")
            else:
                self.wrong("501 5.5.4")
        elif verb == b"EXPN":
            self.wrong("502 5.5.1")
        elif verb == b"HELP":
            if argument in (b"", b"MAIL"):
                self.reply("214 2.0.0")
            else:
                self.wrong("504 5.5.4")
        elif verb == b"STARTTLS":
            self.wrong("502 5.5.1")
        elif verb == b"QUIT":
            if argument:
                self.wrong("501 5.5.4")
            else:
                self.reset()
                self.close("221 2.0.0")
        else:
            self.wrong("500 5.5.1")
        return rest

    # Replies

    def reply(self, text: str, times: int = 1) -> None:
        self.replies += [text] * times

    def wrong(self, text: str, times: int = 1) -> None:
        self.bad += 1
        if self.bad > self.rules.bad:
            self.close("421 4.7.0")
        else:
            self.reply(text, times)

    def close(self, text: str) -> None:
        self.reply(text)
        if self.chunks is not None and not self.dropped:
            self.told.append("content dropped")
        self.told.append("close")
        self.over = True

    def reset(self) -> None:
        if self.sender:
            if self.chunks is not None and not self.dropped:
                self.told.append("content dropped")
            self.told.append("reset")
        self.finish()

    def finish(self) -> None:
        self.sender = self.utf8 = self.binary = self.spoilt = self.dropped = False
        self.recipients = 0
        self.chunks = None

    # Commands

    def hello(self, verb: bytes, argument: bytes) -> None:
        if (verb == b"LHLO") != self.rules.lmtp:
            self.wrong("500 5.5.1")
        elif argument.decode("latin-1") not in GOOD_HOSTS:
            self.wrong("501 5.5.4")
        else:
            self.reset()
            self.greeted = True
            self.extended = verb != b"HELO"
            self.reply("250")

    def mail(self, argument: bytes) -> None:
        if not self.greeted:
            self.wrong("503 5.5.1")
            return
        if self.sender:
            self.wrong("503 5.5.1")
            return
        if self.rules.messages and self.transactions >= self.rules.messages:
            self.close("421 4.7.0")
            return
        try:
            text = argument.decode()
        except UnicodeDecodeError:
            self.wrong("501 5.5.2")
            return
        if not text.upper().startswith("FROM:"):
            self.wrong("501 5.5.4")
            return
        path, _, words = text[5:].strip().partition(" ")
        if path not in (*GOOD_PATHS, REFUSED, UTF8_PATH, "<>"):
            self.wrong("501 5.1.7")
            return
        names = [word.split("=")[0] for word in words.split()]
        told = ["sender", path]
        size = 0
        if len(set(names)) < len(names):
            self.wrong("501 5.5.4")
            return
        for word in words.split():
            if re.fullmatch("SIZE=[0-9]+", word):
                size = int(word[5:])
            elif word in ("BODY=8BITMIME", "BODY=BINARYMIME", "SMTPUTF8"):
                pass
            elif word.startswith(("SIZE", "BODY", "SMTPUTF8")):
                self.wrong("501 5.5.4")
                return
            else:
                self.wrong("555 5.5.4")
                return
        if not text.isascii() and "SMTPUTF8" not in words:
            self.wrong("553 5.6.7")
            return
        if size > self.rules.size:
            self.reply("552 5.3.4")
            return
        if "SIZE" in names:
            told.append(f"size={size}")
        told += [f"body={word[5:]}" for word in words.split() if word.startswith("BODY")]
        told += ["smtputf8"] * ("SMTPUTF8" in words)
        self.told.append(" ".join(told))
        if path == REFUSED:
            self.reply("550 5.7.1")
            return
        self.sender = True
        self.transactions += 1
        self.utf8 = "SMTPUTF8" in words
        self.binary = "BINARYMIME" in words
        self.reply("250 2.1.0")

    def rcpt(self, argument: bytes) -> None:
        if not self.sender or self.chunks is not None or self.spoilt:
            self.wrong("503 5.5.1")
            return
        try:
            text = argument.decode()
        except UnicodeDecodeError:
            self.wrong("501 5.5.2")
            return
        if not text.upper().startswith("TO:"):
            self.wrong("501 5.5.4")
            return
        path, _, words = text[3:].strip().partition(" ")
        if path not in (*GOOD_PATHS, REFUSED, UTF8_PATH, "<postmaster>"):
            self.wrong("501 5.1.3")
        elif words:
            self.wrong("555 5.5.4")
        elif not text.isascii() and not self.utf8:
            self.wrong("553 5.6.7")
        elif self.recipients >= self.rules.recipients:
            self.reply("452 4.5.3")
        else:
            self.told.append(f"recipient {path}")
            if path == REFUSED:
                self.reply("550 5.1.1")
            else:
                self.recipients += 1
                self.reply("250 2.1.5")

    def auth(self, argument: bytes, rest: bytes) -> bytes:
        if not self.greeted or self.sender:
            self.wrong("503 5.5.1")
        elif not self.rules.auth:
            self.wrong("502 5.5.1")
        elif not self.extended or self.authenticated:
            self.wrong("503 5.5.1")
        elif argument == b"":
            self.wrong("501 5.5.4")
        elif not argument.startswith(b"PLAIN"):
            self.wrong("504 5.5.4")
        elif self.failures == 5:
            self.close("421 4.7.0")
        elif argument == b"PLAIN":
            self.told.append("login PLAIN None")
            self.reply("334")
            line, rest = self.line(rest)
            if line is None:
                return b""
            if line == b"*":
                self.told.append("login ended")
                self.wrong("501 5.7.0")
            else:
                self.login(line, exchange=True)
        else:
            self.login(argument[6:], exchange=False)
        return rest

    def login(self, text: bytes, *, exchange: bool) -> None:
        try:
            if not re.fullmatch(rb"[A-Za-z0-9+/]*={0,2}", text) or len(text) % 4:
                raise ValueError
            response = base64.b64decode(text, validate=True)
        except ValueError:
            if exchange:
                self.told.append("login ended")
            self.wrong("501 5.5.2")
            return
        self.told.append(f"login PLAIN {response!r}")
        if response == b"\0bob\0secret":
            self.told.append("login done")
            self.authenticated = True
            self.reply("235 2.7.0")
        else:
            self.failures += 1
            self.reply("535 5.7.8")

    # Content

    def data(self, argument: bytes, rest: bytes) -> bytes:
        if not self.recipients or self.chunks is not None or self.spoilt:
            self.wrong("503 5.5.1")
        elif argument:
            self.wrong("501 5.5.4")
        elif self.binary:
            self.wrong("503 5.5.1")
        else:
            self.told.append("content stuffed")
            self.reply("354")
            before, end, rest = (b"\r\n" + rest).partition(b"\r\n.\r\n")
            if not end:
                # Nothing is delivered; whether it would be refused is not said yet.
                self.told.append("...")
                return b""
            self.judge((before + b"\r\n")[2:], stuffed=True)
        return rest

    def bdat(self, argument: bytes, rest: bytes) -> bytes:
        match = re.fullmatch(rb"(\d{1,20})( LAST)?", argument)
        if match is None:
            self.close("501 5.5.4")
            return b""
        size, last = int(match[1]), bool(match[2])
        begun = self.recipients > 0 and not self.spoilt
        if begun and self.chunks is None:
            self.told.append("content")
            self.chunks = []
        if self.chunks is not None and begun:
            if sum(map(len, self.chunks)) + size > self.rules.size:
                self.drop()
        chunk, rest = rest[:size], rest[size:]
        if len(chunk) < size:
            self.told.append("...")
            return b""
        if not begun:
            each = last and self.rules.lmtp
            times = self.recipients if each and self.recipients else 1
            if last and self.spoilt:
                self.reset()
            self.wrong("503 5.5.1", times)
            return rest
        assert self.chunks is not None
        self.chunks.append(chunk)
        content = b"".join(self.chunks)
        if last:
            self.judge(content, stuffed=False)
            return rest
        fault = self.fault(content, len(content), stuffed=False, more=True)
        if fault:
            self.drop()
            self.spoilt = True
            self.reply(fault)
        else:
            self.reply("250 2.0.0")
        return rest

    def drop(self) -> None:
        if not self.dropped:
            self.told.append("content dropped")
            self.dropped = True

    def fault(self, content: bytes, size: int, *, stuffed: bool, more: bool = False) -> str | None:
        if stuffed and not self.rules.repair:
            size -= len(re.findall(rb"\r\n\.", b"\r\n" + content))
        if not self.binary:
            if b"\0" in content:
                return "554 5.6.0"
            # A CR at the end of a chunk may be half of a CRLF.
            text = content.removesuffix(b"\r") if more else content
            if re.sub(rb"\r\n", b"", text).strip(b"\0") != re.sub(rb"[\r\n]", b"", text):
                return "554 5.6.0"
        if size > self.rules.size:
            return "552 5.3.4"
        header, blank, _ = (b"\r\n" + content).partition(b"\r\n\r\n")
        if len(header + blank) - 2 > self.rules.header:
            return "552 5.3.4"
        if len(re.findall(rb"(?i)\r\nreceived:", header)) > self.rules.hops:
            return "554 5.4.6"
        return None

    def judge(self, content: bytes, *, stuffed: bool) -> None:
        times = self.recipients if self.rules.lmtp else 1
        fault = self.fault(content, len(content), stuffed=stuffed)
        if fault:
            self.drop()
            self.reply(fault, times)
            self.told.append("reset")
        else:
            self.told.append(f"content is {content!r}")
            self.reply("250 2.0.0", times)
            self.bad = 0
        self.finish()
