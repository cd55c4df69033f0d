"""Octets to text, whatever charset they claim: always valid Unicode, never an error."""

from __future__ import annotations

import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import lru_cache

from mailsvc.mime.limits import Notes

#: Codecs that are no charsets, or whose decoder is not linear in its input.
_NEVER = frozenset(
    {
        "base64_codec",
        "bz2_codec",
        "hex_codec",
        "idna",
        "mbcs",
        "oem",
        "punycode",
        "quopri_codec",
        "raw_unicode_escape",
        "rot_13",
        "undefined",
        "unicode_escape",
        "uu_codec",
        "zlib_codec",
    }
)

#: Names beside those in Python's table of aliases.
_MORE = {
    "ansi": "cp1252",
    "koi8_u": "koi8_u",
    "koi8_t": "koi8_t",
    "cp720": "cp720",
    "cp737": "cp737",
    "cp874": "cp874",
    "cp875": "cp875",
    "windows_874": "cp874",
    "iso_8859_8_e": "iso8859_8",
    "unicode_1_1_utf_8": "utf_8",
    "utf8mb4": "utf_8",
    "utf_8_sig": "utf_8",
    "x_gbk": "gbk",
    "x_sjis": "shift_jis",
    "x_mac_roman": "mac_roman",
    "macintosh": "mac_roman",
}

#: What is sent under these names is really written in the superset (WHATWG Encoding Standard,
#: section 4.2).
_SUPERSETS = {
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "tis_620": "cp874",
}


def _table() -> dict[str, str]:
    names = {codec: codec for codec in aliases.values()} | aliases | _MORE
    return {
        name: _SUPERSETS.get(codec, codec) for name, codec in names.items() if codec not in _NEVER
    }


#: Normalised name to codec.  A closed list: looking up a name in ``codecs`` imports a module and
#: remembers every failure for good.
_CODECS = _table()

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")


@lru_cache(maxsize=256)
def codec_of(charset: str) -> str | None:
    """Return Python's codec for the name of a charset (RFC 2978), or None if it is unknown."""
    if len(charset) > 40 or not charset.isascii():
        return None
    return _CODECS.get(normalize_encoding(charset.strip().lower()))


def decoded(octets: bytes, charset: str, where: str, notes: Notes) -> str:
    """Return the text of ``octets``.

    :param charset: as declared; empty for none.
    :param where: what the octets are, for the note when they are not what they claim to be.
    """
    if octets.isascii() and charset.lower() in ("", "utf-8", "us-ascii", "iso-8859-1"):
        return octets.decode("ascii")
    codec = codec_of(charset)
    if codec is None or codec == "ascii":
        if codec is None and charset:
            notes.add(f"{where}: unknown charset")
        elif codec and not octets.isascii():
            notes.add(f"{where}: not valid in its charset")
        return _guessed(octets, where, notes)
    try:
        text = octets.decode(codec)
    except UnicodeError:
        notes.add(f"{where}: not valid in its charset")
        text = octets.decode(codec, "replace")
    # Only UTF-7 yields lone surrogates here, but one would break every encoder behind us.
    return _SURROGATES.sub("\ufffd", text) if codec == "utf_7" else text


def _guessed(octets: bytes, where: str, notes: Notes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeError:
        notes.add(f"{where}: octets above 127 without a charset that explains them")
        return octets.decode("cp1252", "replace")


def one_line(text: str) -> str:
    """Return ``text`` without characters that could end a line or act on a terminal."""
    return text if text.isprintable() else _CONTROLS.sub(" ", text)
