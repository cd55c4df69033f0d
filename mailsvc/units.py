"""What people write for sizes, times, rates and networks, as exact values.

Each unit is a type for a field of a ``msgspec.Struct``; :func:`convert_unit` is the hook that makes
msgspec convert it.  The types are numbers (or tuples), so that code uses the values as they are.
A bare number is refused where it would leave the unit to be guessed.

Plugins may use these types in their options, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_QUANTITY = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*")

_SIZES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}

_DURATIONS = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("week", "weeks"), 604800.0),
}

_PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}

#: A year: longer is a slip of the pen.
_LONGEST = 366 * 86400.0


def parse_size(value: object) -> int:
    """Return the octets that a text such as ``"50 MiB"`` means (KiB, MiB, GiB, TiB; KB, MB …).

    :raises ValueError: it is not such a text; the message says what is expected.
    """
    example = 'write a size with its unit, such as "50 MiB"'
    number, unit = _quantity(value, example)
    factor = _SIZES.get(unit.upper())
    if factor is None:
        raise ValueError(
            f"unknown unit {unit!r} (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB); {example}"
        )
    octets = number * factor
    if octets != int(octets):
        raise ValueError("that is not a whole number of octets")
    if octets > 2**62:
        raise ValueError("that is too large")
    return int(octets)


def parse_duration(value: object) -> float:
    """Return the seconds that a text such as ``"30 s"`` or ``"7 days"`` means.

    :raises ValueError: it is not such a text; the message says what is expected.
    """
    example = 'write a time with its unit, such as "30 s", "5 min", "2 h" or "7 days"'
    number, unit = _quantity(value, example)
    factor = _DURATIONS.get(unit.lower())
    if factor is None:
        raise ValueError(f"unknown unit {unit!r} (ms, s, min, h, days, weeks); {example}")
    seconds = number * factor
    if seconds > _LONGEST:
        raise ValueError("that is longer than a year")
    return seconds


def parse_rate(value: object) -> float:
    """Return the events per second that a text such as ``"100/min"`` means.

    :raises ValueError: it is not such a text; the message says what is expected.
    """
    example = 'write a number for each second, minute, hour or day: "10/s", "100/min", "500/h"'
    if not isinstance(value, str) or value.count("/") != 1:
        raise ValueError(f"not a rate; {example}")
    count, _, period = value.partition("/")
    number, rest = _quantity(count, example)
    seconds = _PERIODS.get(period.strip().lower())
    if rest or seconds is None:
        raise ValueError(f"not a rate; {example}")
    if not number:
        raise ValueError("a rate of 0 lets nothing through")
    return number / seconds


def parse_rate_limit(value: object) -> float:
    """Return the events per second that may be: a rate as above, or 0, which means no limit.

    :raises ValueError: it is neither; the message says what is expected.
    """
    if value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return 0.0
    try:
        return parse_rate(value)
    except ValueError as error:
        raise ValueError(f"{error}; write 0 for no limit") from None


def parse_share(value: object) -> float:
    """Return the part of the whole, above 0 and at most 1, that ``"50 %"`` or ``0.5`` means.

    :raises ValueError: it is neither; the message says what is expected.
    """
    example = 'write a share of the whole, such as "50 %" or 0.5'
    if isinstance(value, str) and value.rstrip().endswith("%"):
        number, unit = _quantity(value.rstrip()[:-1], example)
        share = number / 100
        if unit:
            raise ValueError(f"not a share; {example}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        share = float(value)
    else:
        raise ValueError(f"not a share; {example}")
    if not (math.isfinite(share) and 0 < share <= 1):
        raise ValueError("a share is more than 0 % and at most 100 %")
    return share


def parse_network(value: object) -> IPv4Network | IPv6Network:
    """Return the network that ``"10.0.0.0/8"`` or a single address means.

    :raises ValueError: it is neither; the message says what is expected.
    """
    if not isinstance(value, str):
        raise ValueError('not a network; write an address or a network, such as "10.0.0.0/8"')
    try:
        return ip_network(value.strip())
    except ValueError:
        pass
    try:
        meant = ip_network(value.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f'{value!r} is not a network; write an address or a network, such as "10.0.0.0/8"'
        ) from None
    raise ValueError(f"{value!r} has bits set behind its prefix; did you mean '{meant}'?")


def parse_words(value: object) -> tuple[str, ...]:
    """Return one text, or an array of texts, as a tuple that holds at least one.

    :raises ValueError: it is neither, or an empty text or array.
    """
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ValueError("must be a text or an array of texts")
    if not words or not all(word.strip() for word in words):
        raise ValueError("must not be empty")
    return tuple(words)


def _quantity(value: object, example: str) -> tuple[float, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"a bare number has no unit; {example}")
    if not isinstance(value, str):
        raise ValueError(example)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ValueError(f"cannot read {value!r}; {example}")
    return float(match[1]), match[2]


class Size(int):
    """Octets, written as ``"50 MiB"``."""


class Duration(float):
    """Seconds, written as ``"30 s"``."""


class Rate(float):
    """Events per second, written as ``"100/min"``."""


class RateLimit(float):
    """Events per second that may be, written as ``"100/min"``, or as ``0``: no limit."""


class Share(float):
    """A part of the whole, above 0 and at most 1, written as ``"50 %"`` or ``0.5``."""


@lru_cache(maxsize=1024)
def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return an IP address, the IPv4 one where it is mapped into IPv6; None: it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


class Networks(tuple[IPv4Network | IPv6Network, ...]):
    """IP networks, written as an array of ``"10.0.0.0/8"`` or addresses."""

    __slots__ = ()

    def cover(self, host: str) -> bool:
        """Say whether an IP address, given as text, lies in one of them.

        IPv4 addresses that come mapped into IPv6 (``::ffff:192.0.2.1``) count as what they are.
        """
        if not self:
            return False
        address = _address(host)
        return address is not None and any(address in network for network in self)


class Words(tuple[str, ...]):
    """One text or an array of texts."""

    __slots__ = ()


def _networks(value: object) -> Networks:
    if not isinstance(value, (list, tuple)):
        raise ValueError('must be an array of networks, such as ["10.0.0.0/8"]')
    return Networks(parse_network(each) for each in value)


_UNITS: dict[type, Callable[[object], object]] = {
    Size: lambda value: Size(parse_size(value)),
    Duration: lambda value: Duration(parse_duration(value)),
    Rate: lambda value: Rate(parse_rate(value)),
    RateLimit: lambda value: RateLimit(parse_rate_limit(value)),
    Share: lambda value: Share(parse_share(value)),
    Networks: _networks,
    Words: lambda value: Words(parse_words(value)),
}


def convert_unit(wanted: type, value: object) -> object:
    """Convert a value of a TOML file to one of this module's types: msgspec's ``dec_hook``.

    :raises ValueError: the value does not fit; msgspec adds where it stands.
    :raises NotImplementedError: the type is not one of this module's.
    """
    convert = _UNITS.get(wanted)
    if convert is None:
        raise NotImplementedError(f"no conversion to {wanted!r}")
    return convert(value)
