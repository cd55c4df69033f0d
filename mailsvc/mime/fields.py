"""Header fields: splitting, encoded words, parameters, addresses and dates.

Every function is linear in its input and none raises for what a field holds.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from mailsvc.mime.charsets import decoded, one_line
from mailsvc.mime.limits import Limits, Notes
from mailsvc.parsed import Mailbox

#: Names as written and values unfolded but not decoded; an octet above 127 is a lone surrogate.
Fields = list[tuple[str, str]]

#: A field with its folded lines (RFC 5322 section 2.2); obs-fields allow white space before the
#: colon (section 4.5).
_FIELD = re.compile(
    r"([\x21-\x39\x3b-\x7e]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)(?:\n|\Z)",
)
_BLANKS = " \t\r\n\x0b\x0c"

#: An encoded word (RFC 2047 section 2, with the language of RFC 2231 section 5).  Spaces inside are
#: wrong and common.
_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]{0,40})?\?([bBqQ])\?([^?\r\n]*)\?=")

#: Fields of addresses (RFC 5322 sections 3.6.2, 3.6.3 and 3.6.6, RFC 8098 section 2.1).
OF_ADDRESSES = frozenset(
    {
        *("from", "sender", "reply-to", "to", "cc", "bcc", "disposition-notification-to"),
        *("resent-from", "resent-sender", "resent-to", "resent-cc", "resent-bcc"),
    }
)

#: What ends a word in an address list unless it is quoted (RFC 5322 section 3.2.3).
_SPECIAL = re.compile(r'[()<>\[\]:;@\\,"]')
_QUOTED = re.compile(r'["\\]')

#: One parameter (RFC 2045 section 5.1, RFC 2231 sections 3 and 4).
_PARAMETER = re.compile(
    r";\s*([^\s=;*\"]{1,80})(?:\*(\d{1,3}))?(\*)?\s*=\s*"
    r"(?:\"([^\"\\]*(?:\\.[^\"\\]*)*)\"?|([^;]*))",
    re.DOTALL,
)
_PARAMETERS = 200
#: In a parameter only a mark is escaped: programs write paths of Windows without a thought.
_ESCAPED_MARK = re.compile(r'\\(["\\])')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

#: The pieces of an address list (RFC 5322 section 3.4): quoted string, angle address, a delimiter
#: or the beginning of a comment, plain text.
_PIECE = re.compile(
    r"\"([^\"\\]*(?:\\.[^\"\\]*)*)\"?"
    r"|<([^<>,;\"]*(?:\"[^\"]*\"[^<>,;\"]*)?)>?"
    r"|([,:;(])"
    # An encoded word is one piece, even with a comma inside (wrong in a phrase, and common).
    r"|(=\?[^?\s]{1,80}\?[bBqQ]\?[^?\r\n]{0,1000}\?=|=|[^=,:;(\"<]+)",
    re.DOTALL,
)
_COMMENT = re.compile(r"[()]|\\.", re.DOTALL)
_DATE_LENGTH = 128


def body_start(octets: bytes, start: int, end: int) -> tuple[int, int]:
    """Return the end of the header block that begins at ``start``, and where its body starts.

    An empty line is between them.
    """
    for opening in (b"\r\n", b"\n"):
        if octets.startswith(opening, start, end):
            return start, start + len(opening)
    # Most line ends are CRLF: this search is short, and bounds the other.
    found = octets.find(b"\n\r\n", start, end)
    bare = octets.find(b"\n\n", start, end if found < 0 else found + 1)
    if bare >= 0:
        found, body = bare, bare + 2
    elif found >= 0:
        body = found + 3
    else:
        return end, end
    return (found - 1 if octets.endswith(b"\r", start, found) else found), body


def split_fields(block: bytes, limits: Limits, notes: Notes) -> tuple[Fields, int | None]:
    """Split a header block into names as written and values, unfolded but not decoded.

    :return: the fields, and the offset of the first line that is no field, if there is one: the
        body starts there, as if an empty line stood before it.
    """
    fields: Fields = []
    if len(block) > limits.header:
        notes.add(f"header: longer than {limits.header} octets, the rest is left out")
        block = block[: block.rfind(b"\n", 0, limits.header) + 1 or limits.header]
    text = block.decode("ascii", "surrogateescape")
    end = len(text)
    position = 0
    while position < end:
        found = _FIELD.match(text, position)
        if found is None:
            line = text[position : text.find("\n", position) + 1 or end]
            if line.strip(_BLANKS) and (position or not line.startswith(("From ", ">From "))):
                notes.add("header: a line is no field, the body is taken to start there")
                return fields, position
            position += len(line)
            continue
        if len(fields) == limits.fields:
            notes.add(f"header: more than {limits.fields} fields, the rest is left out")
            return fields, None
        name, value = found.groups()
        value = value.strip(_BLANKS)
        if "\n" in value or "\r" in value:
            value = value.replace("\r", "").replace("\n", "")
        fields.append((name, value))
        position = found.end()
    return fields, None


def raw_text(value: str, notes: Notes) -> str:
    """Return a field's value as text, its encoded words as they are (RFC 6532 for the rest)."""
    if value.isascii():
        return value
    return decoded(value.encode("ascii", "surrogateescape"), "", "header", notes)


def decoded_words(text: str, notes: Notes, phrases: bool = False) -> str:
    """Return ``text`` with its encoded words decoded (RFC 2047), as one line.

    :param phrases: the words are names in an address list: one with a comma in it, say, is quoted,
        so that what comes out is the same list.
    """
    return _decoded_words(text, notes, phrases) if "=?" in text else one_line(text)


def _decoded_words(text: str, notes: Notes, phrases: bool) -> str:
    pieces: list[str] = []
    octets: list[bytes] = []
    charset = ""
    position = 0
    marks = 0

    def flush() -> None:
        words = decoded(b"".join(octets), charset, "header", notes)
        octets.clear()
        pieces.append(_phrase(words, within=marks % 2 == 1) if phrases else words)

    for word in _WORD.finditer(text):
        between = text[position : word.start()]
        # White space between encoded words is not shown (section 6.2); a character split over two
        # of them is common enough, so their octets are joined first.
        apart = bool(between.strip()) or position == 0
        if octets and (apart or word[1].lower() != charset):
            flush()
        if apart:
            pieces.append(between)
            marks += between.count('"')
        charset = word[1].lower()
        octets.append(_word_octets(word[2], word[3], notes))
        position = word.end()
    if octets:
        flush()
    pieces.append(text[position:])
    return one_line("".join(pieces))


def _phrase(words: str, within: bool) -> str:
    """Return words for an address list (RFC 5322 section 3.2.4).

    :param within: they stand in a quoted string already.
    """
    if not _SPECIAL.search(words):
        return words
    escaped = _QUOTED.sub(r"\\\g<0>", words)
    return escaped if within else f'"{escaped}"'


def _word_octets(encoding: str, text: str, notes: Notes) -> bytes:
    octets = text.encode("utf-8", "replace")
    if encoding in "qQ":
        return binascii.a2b_qp(octets, header=True)
    return base64_octets(octets, "header", notes)


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def base64_octets(octets: bytes, where: str, notes: Notes) -> bytes:
    """Return what can be decoded of base64 (RFC 2045 section 6.8)."""
    # Line ends do not count, and in broken mail neither does what is not of the alphabet.
    octets = octets.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(octets, strict_mode=True)
    except binascii.Error:
        pass
    body, _, rest = octets.partition(b"=")
    clean = body.translate(None, body.translate(None, _BASE64))
    if len(clean) != len(body) or rest.strip(b"=") or len(clean) % 4 == 1:
        notes.add(f"{where}: broken base64")
        clean = clean[: len(clean) - 1] if len(clean) % 4 == 1 else clean
    return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4))


def parameters(text: str, notes: Notes) -> tuple[str, dict[str, str]]:
    """Split a Content-Type or Content-Disposition value.

    :return: the value before the first semicolon, lower case, and the decoded parameters by
        lower-case name.
    """
    value, _, _ = text.partition(";")
    plain: dict[str, str] = {}
    extended: dict[str, dict[int, tuple[bool, str]]] = {}
    for number, found in enumerate(_PARAMETER.finditer(text, len(value))):
        if number == _PARAMETERS:
            notes.add(f"header: more than {_PARAMETERS} parameters, the rest is left out")
            break
        name, segment, star, quoted, bare = found.groups()
        name = name.lower()
        content = _unescaped(_ESCAPED_MARK, quoted) if quoted is not None else bare.strip()
        if segment is None and star is None:
            plain.setdefault(name, decoded_words(content, notes))
        else:
            segments = extended.setdefault(name, {})
            segments.setdefault(int(segment or 0), (bool(star), content))
    for name, segments in extended.items():
        plain[name] = _joined(segments, notes)
    return value.strip().lower(), plain


def _unescaped(escaped: re.Pattern[str], text: str) -> str:
    return escaped.sub(r"\1", text) if "\\" in text else text


def _joined(segments: dict[int, tuple[bool, str]], notes: Notes) -> str:
    """Join the segments of one parameter (RFC 2231 section 4.1)."""
    charset = ""
    octets: list[bytes] = []
    for number in sorted(segments):
        encoded, text = segments[number]
        if encoded and number == min(segments) and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        octets.append(unquote_to_bytes(text) if encoded else text.encode("utf-8", "replace"))
    return one_line(decoded(b"".join(octets), charset, "header", notes))


def addresses(text: str, limits: Limits, notes: Notes) -> tuple[Mailbox, ...]:
    """Return the mailboxes of an address list, those of groups included (RFC 5322 section 3.4)."""
    found: list[Mailbox] = []
    for words, comment, angle in _entries(text):
        if len(found) == limits.addresses:
            notes.add(f"header: more than {limits.addresses} addresses, the rest is left out")
            break
        name = "".join(words).strip()
        if angle is None:
            name, address = _bare(name)
        else:
            # A route before the address is to be ignored (section 4.4).
            address = (angle.rpartition(":")[2] if angle.startswith("@") else angle).strip()
        # A comment beside an address is the old way to give a name.  No encoded word is decoded
        # within an address (RFC 2047 section 5): it would be another address then.
        name = decoded_words(name or comment, notes)
        if name or address:
            found.append(Mailbox(name, one_line(address)))
    return tuple(found)


def _bare(text: str) -> tuple[str, str]:
    """Return name and address of an entry without angle brackets."""
    if text.startswith('"') and '"@' in text:
        return "", text
    words = text.split()
    if len(words) < 2:
        return "", text
    address = next((word for word in words if "@" in word), "")
    return " ".join(word for word in words if word != address), address


def _entries(text: str) -> Iterator[tuple[list[str], str, str | None]]:
    """Yield words, comment and angle address of each entry of an address list."""
    words: list[str] = []
    comment = ""
    angle: str | None = None
    position = 0
    while piece := _PIECE.match(text, position):
        position = piece.end()
        quoted, route, mark, word = piece.groups()
        if quoted is not None:
            content = _unescaped(_ESCAPED, quoted)
            follows = text[position : position + 1]
            # A quoted local part keeps its quotes; a quoted display name loses them.
            words.append(f'"{content}"' if follows == "@" else content)
        elif route is not None:
            angle = route
        elif mark == "(":
            comment, position = _comment(text, position)
        elif mark == ":":
            words = []  # the name of a group
        elif mark is not None:
            yield words, comment, angle
            words, comment, angle = [], "", None
        else:
            words.append(word)
    yield words, comment, angle


def _comment(text: str, start: int) -> tuple[str, int]:
    """Return the comment whose parenthesis opened before ``start``, and where it ends."""
    depth = 1
    for found in _COMMENT.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if depth == 0:
            return _unescaped(_ESCAPED, text[start : found.start()]).strip(), found.end()
    return text[start:].strip(), len(text)


def date(text: str, notes: Notes) -> str:
    """Return a Date field in ISO 8601, with an offset from UTC, or nothing if it is no date."""
    if not text:
        return ""
    try:
        moment = parsedate_to_datetime(text[:_DATE_LENGTH])
        # "-0000" says that the offset is unknown (RFC 5322 section 3.3).
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        notes.add("Date: not a date")
        return ""


def identifier(text: str) -> str:
    """Return a message or content id without its angle brackets (RFC 5322 section 3.6.4)."""
    start = text.find("<")
    if start < 0:
        return one_line(text.strip())
    end = text.find(">", start)
    return one_line(text[start + 1 : end if end >= 0 else len(text)].strip())
