"""Long texts a piece at a time: one call into C holds the interpreter until it is done.

A text of 50 MB that is not ASCII takes half a second to encode, and the reactor would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: Characters or octets of a piece: a few milliseconds each.
PIECE = 1_048_576


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces."""
    for at in range(0, len(text), PIECE):
        yield text[at : at + PIECE]


def encoded(text: str) -> bytes:
    """Return a text in UTF-8."""
    if len(text) <= PIECE:
        return text.encode("utf-8")
    return b"".join(piece.encode("utf-8") for piece in pieces(text))


def decoded(octets: Iterable[bytes]) -> str:
    """Return the text whose pieces are given in UTF-8."""
    return "".join(piece.decode("utf-8") for piece in octets)
