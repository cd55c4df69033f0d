"""What log lines are made of: words, addresses, envelopes.

Peer-controlled text goes through :func:`shown`, so that no line holds a byte that a terminal or a
log parser would act on.
"""

from __future__ import annotations

from mailsvc.message import Address


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


def path(address: Address | None) -> str:
    """Return an address in angle brackets; the null reverse-path for None."""
    return f"<{shown(address)}>" if address is not None else "<>"


def envelope(reverse_path: Address | None, recipients: tuple[Address, ...]) -> str:
    """Return who sent and for whom; of many recipients the first five."""
    to = ",".join([path(address) for address in recipients[:5]])
    more = f" and {len(recipients) - 5} more" if len(recipients) > 5 else ""
    return f"from={path(reverse_path)} to={to}{more}"


def client(host: str, user: str | None = None) -> str:
    """Return who was connected, and who it logged in as."""
    return f"client={shown(host)}" + (f" user={shown(user)}" if user is not None else "")


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
        f"{id} from={path(reverse_path)} to={path(recipient)} destination={shown(destination)}"
        f" attempt={attempt} size={size}"
    )
