"""Hostile and broken mail, generated: each generator is named for what it does.

``python -m tests.corpus DIRECTORY`` writes the corpus as files.  Sizes are a parameter, so that the
tests are quick and the proofs are not.
"""

from __future__ import annotations

import random
from collections.abc import Callable

_HEAD = b"From: a@example.org\r\nTo: b@example.com\r\nSubject: hostile\r\nMIME-Version: 1.0\r\n"
_MIXED = b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n"


def _repeated(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


def deep_nesting(size: int) -> bytes:
    """Return multiparts within multiparts, as many as fit."""
    levels: list[bytes] = []
    total = len(_HEAD)
    while total < size:
        boundary = b"b%d" % len(levels)
        levels.append(_MIXED % boundary + b"--%s\r\n" % boundary)
        total += len(levels[-1])
    return _HEAD + b"".join(levels) + b"\r\ntext\r\n"


def deep_nesting_with_one_boundary(size: int) -> bytes:
    """Return multiparts that all have the same boundary."""
    return _HEAD + _repeated(_MIXED % b"b" + b"--b\r\n", size)


def boundaries_that_begin_one_another(size: int) -> bytes:
    """Return multiparts whose boundaries are each the beginning of the next."""
    levels: list[bytes] = []
    total = len(_HEAD)
    while total < size:
        boundary = b"b" * min(len(levels) + 1, 200)
        levels.append(_MIXED % boundary + b"--%s\r\n" % boundary)
        total += len(levels[-1])
    return _HEAD + b"".join(levels)


def thousands_of_parts(size: int) -> bytes:
    """Return a multipart of empty parts."""
    return _HEAD + _MIXED % b"b" + _repeated(b"--b\r\n\r\n", size) + b"--b--\r\n"


def parts_with_long_headers(size: int) -> bytes:
    """Return parts that are header only, with names and words to decode."""
    part = b"--b\r\n" + b"X-A: =?utf-8?q?a?=\r\n" * 500 + b"\r\n"
    return _HEAD + _MIXED % b"b" + _repeated(part, size) + b"--b--\r\n"


def delimiters_that_are_none(size: int) -> bytes:
    """Return lines that begin as a delimiter does."""
    return _HEAD + _MIXED % b"b" + b"--b\r\n\r\n" + _repeated(b"--bx\r\n", size)


def giant_boundary(size: int) -> bytes:
    """Return a boundary as long as the mail."""
    return _HEAD + b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\ntext\r\n' % (b"b" * size)


def many_addresses(size: int) -> bytes:
    """Return recipients without end, with names, comments and quoted strings."""
    return b"To: %s\r\n" % _repeated(b'"A, B" (c) <a@example.org>,\r\n ', size) + _HEAD + b"\r\nx"


def addresses_of_delimiters(size: int) -> bytes:
    """Return address fields of what address lists are divided by."""
    fields = [
        b"Cc: %s\r\n" % _repeated(unit, size // 6)
        for unit in (b"<", b'"', b"(", b'<"', b":;", b"\\")
    ]
    return b"".join(fields) + _HEAD + b"\r\nx"


def many_encoded_words(size: int) -> bytes:
    """Return a subject of encoded words, each with another charset."""
    words = [b"=?x-%d?q?=41?=" % number for number in range(size // 16)]
    return b"Subject: %s\r\n" % b"\r\n ".join(words) + _HEAD + b"\r\nx"


def unfinished_encoded_words(size: int) -> bytes:
    """Return the beginnings of encoded words."""
    return b"Subject: %s\r\n" % _repeated(b"=?a?q?", size) + _HEAD + b"\r\nx"


def many_fields(size: int) -> bytes:
    """Return a header of very many very short fields."""
    return _HEAD + _repeated(b"A:\r\n", size) + b"\r\nx"


def one_endless_field(size: int) -> bytes:
    """Return a field of very many very short lines."""
    return b"A: b\r\n" + _repeated(b" \r\n", size) + _HEAD + b"\r\nx"


def header_without_an_end(size: int) -> bytes:
    """Return a line that goes on."""
    return b"A" * size


def many_parameters(size: int) -> bytes:
    """Return a file name in segments without end."""
    units = [b"; filename*%d*=%%41" % (number % 1000) for number in range(size // 20)]
    return _HEAD + b"Content-Disposition: attachment%s\r\n\r\nx" % b"".join(units)


def parameters_of_delimiters(size: int) -> bytes:
    """Return parameters that never come to their value."""
    return _HEAD + b"Content-Type: a/b%s\r\n\r\nx" % _repeated(b"; a  " + b"\t" * 20, size)


def lying_charsets(size: int) -> bytes:
    """Return parts that are not in the charset they claim."""
    garbage = bytes(range(128, 256)) * 8
    charsets = (b"utf-8", b"us-ascii", b"utf-16", b"utf-7", b"iso-2022-jp", b"hz", b"gb18030", b"x")
    part = b"".join(
        b"--b\r\nContent-Type: text/plain; charset=%s\r\n\r\n%s\r\n" % (charset, garbage)
        for charset in charsets
    )
    return _HEAD + _MIXED % b"b" + _repeated(part, size) + b"--b--\r\n"


def codecs_that_are_no_charsets(size: int) -> bytes:
    """Return texts that claim to be compressed, or in a slow code."""
    codecs = (b"zlib", b"bz2", b"punycode", b"idna", b"unicode_escape", b"rot13", b"undefined")
    part = b"".join(
        b"--b\r\nContent-Type: text/plain; charset=%s\r\n\r\n%s\r\n" % (codec, b"a-" * 2000)
        for codec in codecs
    )
    return _HEAD + _MIXED % b"b" + _repeated(part, size) + b"--b--\r\n"


def text_in_utf7(size: int) -> bytes:
    """Return text in UTF-7 that is lone surrogates."""
    return _HEAD + b"Content-Type: text/plain; charset=utf-7\r\n\r\n" + _repeated(b"+2AA-", size)


def broken_base64(size: int) -> bytes:
    """Return base64 with padding, signs and line ends in every place."""
    scraps = random.Random(1).choices([b"A", b"=", b"!", b"\r\n", b"\xff", b"Zz", b"=="], k=size)
    return _HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + b"".join(scraps)[:size]


def broken_quoted_printable(size: int) -> bytes:
    """Return equals signs that lead nowhere."""
    return (
        _HEAD
        + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        + _repeated(b"==g=\r\n=", size)
    )


def padded_quoted_printable(size: int) -> bytes:
    """Return lines of blanks that do not count, and one that never ends."""
    return (
        _HEAD
        + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        + _repeated(b" \r\n", size // 2)
        + b" \t" * (size // 4)
    )


def headers_without_an_end(size: int) -> bytes:
    """Return multiparts within multiparts, each cut off its header by a line that is no field."""
    levels = b"".join(
        _MIXED.rstrip() % b"b%d" % level + b"\r\n(\r\n--b%d\r\n" % level for level in range(25)
    )
    return _HEAD + levels + _repeated(b"(\r\n", size)


def colons(size: int) -> bytes:
    """Return lines that may each end a line of who wrote, or begin Outlook's."""
    unit = b":\r\n1 @:\r\n2024\xe5\xb9\xb4<a@b:\r\nFrom:\r\n---\r\nFrom: a\r\n"
    return _HEAD + b"\r\nyes\r\n" + _repeated(unit, size)


def quotations_in_quotations(size: int) -> bytes:
    """Return a page that makes each of very many lines a deeply quoted one."""
    page = b"<p>yes</p>" + b"<blockquote>" * 100 + _repeated(b"a<br>", size)
    return _HEAD + b"Content-Type: text/html\r\n\r\n" + page


def content_ids(size: int) -> bytes:
    """Return a page that names very many parts, and parts that it may have named."""
    page = b"Content-Type: text/html\r\n\r\n" + _repeated(b"cid:a cid:%61 ", size // 2)
    part = b"--b\r\nContent-Type: image/png\r\nContent-ID: <c>\r\n\r\nx\r\n"
    return _HEAD + _MIXED % b"b" + b"--b\r\n" + page + b"\r\n" + _repeated(part, size // 2)


def mails_in_mails(size: int) -> bytes:
    """Return mails within mails that are not UTF-8, which some formats make UTF-8."""
    return _repeated(b"Content-Type: message/rfc822\r\n\r\n", size) + b"\xe9"


def quotation_without_end(size: int) -> bytes:
    """Return lines that may each begin a quoted history."""
    unit = b"On 1 May 2024, Bob <bob@example.org>\r\nFrom: a\r\n--\r\n___\r\nSent: wrote:\r\n"
    return _HEAD + b"\r\nyes\r\n" + _repeated(unit, size)


def short_lines(size: int) -> bytes:
    """Return a text of very many lines."""
    return _HEAD + b"\r\n" + _repeated(b">:\r\n-:\r\n", size)


def one_long_line(size: int) -> bytes:
    """Return a text without a line end, made of what is looked for in lines."""
    return _HEAD + b"\r\n" + _repeated(b"wrote: 1 @ -", size) + b":"


def tags_without_end(size: int) -> bytes:
    """Return HTML that opens and never closes."""
    units = (b"<blockquote>", b"<div class=", b"<a", b"&#99999", b"<!--", b"<script>")
    return (
        _HEAD
        + b"Content-Type: text/html\r\n\r\n"
        + b"".join(_repeated(unit, size // 6) for unit in units)
    )


def numbers_without_end(size: int) -> bytes:
    """Return HTML with one character reference of very many digits."""
    return _HEAD + b"Content-Type: text/html\r\n\r\n&#" + b"9" * size + b";"


def noise(size: int) -> bytes:
    """Return octets at random, behind a header that promises structure."""
    return _HEAD + _MIXED % b"b" + b"--b\r\n" + random.Random(2).randbytes(size)


def scraps(size: int) -> bytes:
    """Return what mails are made of, in no order."""
    units = [
        *(b"\r\n", b"\n", b"--b", b"--b--", b"--c\r\n", b": ", b" ", b"\t", b'"', b";", b"<", b">"),
        *(_MIXED % b"c", _MIXED % b"b", b"Content-Transfer-Encoding: base64\r\n", b"=?utf-8?b?"),
        *(b"?=", b"(", b")", b",", b"@", b"\\", b"=", b"QUJD", b"\xff", b"\xe2\x82\xac", b"text "),
    ]
    return _HEAD + b"".join(random.Random(3).choices(units, k=size // 5))[:size]


GENERATORS: tuple[Callable[[int], bytes], ...] = (
    deep_nesting,
    deep_nesting_with_one_boundary,
    boundaries_that_begin_one_another,
    thousands_of_parts,
    parts_with_long_headers,
    delimiters_that_are_none,
    giant_boundary,
    many_addresses,
    addresses_of_delimiters,
    many_encoded_words,
    unfinished_encoded_words,
    many_fields,
    one_endless_field,
    header_without_an_end,
    many_parameters,
    parameters_of_delimiters,
    lying_charsets,
    codecs_that_are_no_charsets,
    text_in_utf7,
    broken_base64,
    broken_quoted_printable,
    padded_quoted_printable,
    headers_without_an_end,
    colons,
    quotations_in_quotations,
    content_ids,
    mails_in_mails,
    quotation_without_end,
    short_lines,
    one_long_line,
    tags_without_end,
    numbers_without_end,
    noise,
    scraps,
)
