"""The names of messages and deliveries: letters and digits, sortable by time, never repeated.

A message id is 11 hexadecimal digits of milliseconds since the epoch and 16 of randomness, so that
processes that share a spool need not agree on a counter.  A delivery's id is its message's with
``-N``.
"""

from __future__ import annotations

import os
import re

_DELIVERY_ID = re.compile(r"([0-9A-Za-z]{1,32})(?:-([1-9][0-9]{0,6}))?")

#: Random parts of ids to come: the system is asked for 128 of them at once, not for each message.
_parts: list[str] = []


def _random_part() -> str:
    while True:
        try:
            return _parts.pop()
        except IndexError:
            octets = os.urandom(1024).hex()
            _parts.extend(octets[at : at + 16] for at in range(0, len(octets), 16))


def new_message_id(now: float) -> str:
    """Return a fresh message id.

    :param now: seconds since the epoch; ids of later times sort later.
    """
    # A fourth of what a format's specification costs.
    return hex(int(now * 1000))[2:].zfill(11) + _random_part()


def delivery_id(message_id: str, number: int) -> str:
    """Return the id of a message's delivery ``number`` (from 1)."""
    return f"{message_id}-{number}"


def is_message_id(text: str) -> bool:
    """Say whether a text can be the id of a message: each is asked, so :func:`split_id` is not."""
    return text.isalnum() and text.isascii() and len(text) <= 32


def split_id(text: str) -> tuple[str, int | None] | None:
    """Return the message id and the number of a delivery id.

    :return: the number is None for a bare message id; the whole is None for what is no id.
    """
    match = _DELIVERY_ID.fullmatch(text)
    if match is None:
        return None
    number = match.group(2)
    return match.group(1), int(number) if number else None
