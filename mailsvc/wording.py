"""What log lines are made of: words, addresses, envelopes.

Peer-controlled text goes through :func:`shown`, so that no line holds a byte that a terminal or a
log parser would act on.
"""

from __future__ import annotations

from typing import Final

from mailsvc.message import Address

#: Addresses and words that were shown lately: a mail's are, in each of its lines; bounded.
_paths: Final[dict[Address, str]] = {}
_words: Final[dict[str, str]] = {}
_MOST: Final = 256

#: Durations in seconds, by milliseconds: to format a float costs as much as all else of a line.
_SHORT: Final[list[str]] = [f"{milliseconds / 1000:.3f}" for milliseconds in range(250)]


def printable(text: object, limit: int = 256) -> str:
    """Return ``text`` in printable ASCII, escaped as Python would, at most ``limit`` long."""
    raw = str(text)
    short = raw if len(raw) <= limit else raw[: limit - 3] + "..."
    if short.isascii() and short.isprintable():
        return short
    return short.encode("unicode_escape").decode("ascii")


def shown(text: object, limit: int = 256) -> str:
    """Return :func:`printable` text that is one word: spaces are escaped, too."""
    word = printable(text, limit)
    return word.replace(" ", "\\x20") if " " in word else word


def took(seconds: float) -> str:
    """Return seconds with three decimals."""
    exact = seconds * 1000.0
    if 0.0 < exact < 249.0:
        nearest = int(exact + 0.5)
        # What lies between two of them is rounded by those who know how.
        if abs(exact - nearest) < 0.499:
            return _SHORT[nearest]
    return f"{seconds:.3f}"


def path(address: Address | None) -> str:
    """Return an address in angle brackets; the null reverse-path for None."""
    if address is None:
        return "<>"
    known = _paths.get(address)
    if known is None:
        if len(_paths) >= _MOST:
            _paths.clear()
        known = _paths[address] = f"<{shown(address)}>"
    return known


def _word(text: str) -> str:
    """Return :func:`shown` text of a kind that repeats: a destination's name, a host."""
    known = _words.get(text)
    if known is None:
        if len(_words) >= _MOST:
            _words.clear()
        known = _words[text] = shown(text)
    return known


def envelope(reverse_path: Address | None, recipients: tuple[Address, ...]) -> str:
    """Return who sent and for whom; of many recipients the first five."""
    to = ",".join([path(address) for address in recipients[:5]])
    more = f" and {len(recipients) - 5} more" if len(recipients) > 5 else ""
    return f"from={path(reverse_path)} to={to}{more}"


def client(host: str, user: str | None = None) -> str:
    """Return who was connected, and who it logged in as."""
    return f"client={_word(host)}" + (f" user={shown(user)}" if user is not None else "")


def accepted(
    id: str,
    reverse_path: Address | None,
    recipients: tuple[Address, ...],
    destinations: tuple[str, ...],
    size: int,
    host: str,
    user: str | None,
    seconds: float,
) -> str:
    """Return the line of a message that was accepted; ``size`` in octets."""
    names = ",".join([_word(name) for name in destinations])
    return (
        f"accepted {id} {envelope(reverse_path, recipients)} destination={names} size={size}"
        f" {client(host, user)} in {took(seconds)}s"
    )


def delivery(
    id: str,
    reverse_path: Address | None,
    recipient: Address,
    destination: str,
    attempt: int,
    size: int,
) -> str:
    """Return what an attempt was about; ``size`` in octets."""
    return (
        f"{id} from={path(reverse_path)} to={path(recipient)} destination={_word(destination)}"
        f" attempt={attempt} size={size}"
    )


def delivered(
    id: str,
    reverse_path: Address | None,
    recipient: Address,
    destination: str,
    attempt: int,
    size: int,
    seconds: float,
) -> str:
    """Return the line of a delivery that went well."""
    what = delivery(id, reverse_path, recipient, destination, attempt, size)
    return f"delivered {what} in {took(seconds)}s"
