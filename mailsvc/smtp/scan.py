"""Searches whole chunks of content for the few octets that matter.

StringZilla takes many octets at a time.  Microseconds a MiB with it on AVX-512, on AVX2, and
without it: the search for ``CRLF "."`` 30, 60 and 700, :func:`paired` 90, 360 and 1,000.
"""

from __future__ import annotations

from typing import Final


def bytes_translate(data: bytes, table: bytes, _: bool, start: int, stop: int) -> bytes:
    """Do with what octets have what StringZilla does."""
    return data[start:stop].translate(table)


try:
    from stringzilla import count as _count
    from stringzilla import find as _find
    from stringzilla import translate as _translate
except ImportError:
    # There is none for this kind of machine.
    _count = bytes.count
    _find = bytes.find
    _translate = bytes_translate

#: Octets that :func:`paired` looks at at a time: copies of more would be new pages, which cost ten
#: times as much.
_PIECE: Final = 1 << 16

_CR: Final = bytes(octet == 0x0D for octet in range(256))
_LF: Final = bytes(octet == 0x0A for octet in range(256))


def find(data: bytes, octets: bytes, start: int = 0) -> int:
    """Return where ``octets`` begin in ``data``, at ``start`` or later, or -1."""
    found: int = _find(data, octets, start)
    return found


def count(data: bytes, octets: bytes, start: int, stop: int) -> int:
    """Return how often ``octets`` lie between ``start`` and ``stop``, without overlap."""
    times: int = _count(data, octets, start, stop)
    return times


def paired(data: bytes, after_cr: bool) -> bool:
    """Say whether each CR is followed by LF and each LF follows CR; a CR may be the last octet.

    :param data: at least one octet.
    :param after_cr: what came before them ended with CR.
    """
    for start in range(0, len(data), _PIECE):
        # One where the octet is there, zero elsewhere: an octet behind, both are the same.
        returns: bytes = _translate(data, _CR, False, start, start + _PIECE)
        feeds: bytes = _translate(data, _LF, False, start, start + _PIECE)
        if (feeds[0] == 1) != after_cr or not returns.startswith(feeds[1:]):
            return False
        after_cr = returns[-1] == 1
    return True
