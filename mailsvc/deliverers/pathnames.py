"""Recipients in paths: one placeholder, one name that can neither climb nor collide.

Addresses are written by strangers.  What replaces a placeholder never holds a slash, never begins
with a dot, is never empty and never too long, and two different addresses never give the same name
(requirement 45).
"""

from __future__ import annotations

import hashlib
import os
import re

from mailsvc.errors import ConfigError
from mailsvc.message import Recipient

#: Octets that stand for themselves in a name; every other one, ``%`` included, is percent-encoded.
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-._=+@")
_ENCODED = tuple(chr(octet) if octet in _PLAIN else f"%{octet:02X}" for octet in range(256))
#: A maildir's own sub-directories: nobody's mail is filed beside theirs.
_RESERVED = frozenset({"cur", "new", "tmp"})
#: Octets of a name; a longer one is cut and gets a digest in place of the rest.
NAME_LIMIT = 120
_DIGEST_OCTETS = 16
#: What a file system takes for one name.
_COMPONENT_LIMIT = 255

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("user", "domain", "tag")


def safe_name(text: str) -> str:
    """Return a file name for ``text``: another one for every other text.

    ``%`` is followed by two hexadecimal digits where it encodes an octet, by a tilde before a
    digest, and by nothing where it is the name of the empty text; so the three never meet.
    """
    if not text:
        return "%"
    octets = text.encode("utf-8", "surrogatepass")
    name = "".join([_ENCODED[octet] for octet in octets])
    if name[0] == "." or name in _RESERVED:
        name = f"%{octets[0]:02X}{name[1:]}"
    if len(name) > NAME_LIMIT:
        digest = hashlib.sha256(octets).hexdigest()[: 2 * _DIGEST_OCTETS]
        name = f"{name[: NAME_LIMIT - 2 - len(digest)]}%~{digest}"
    return name


class PathTemplate:
    """A path with ``{user}``, ``{domain}`` and ``{tag}`` in it.

    :param text: as configured; a relative path begins in the working directory of now.
    :param hostname: stands for the domain of the bare ``postmaster``.
    :raises mailsvc.errors.ConfigError: ``text`` is no such path.
    """

    def __init__(self, text: str, hostname: str) -> None:
        self._hostname = hostname
        if not text or "\0" in text:
            raise ConfigError("path: it must name a directory")
        known = " ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
        for found in _PLACEHOLDER.finditer(text):
            if found[1] not in _PLACEHOLDERS:
                raise ConfigError(f"path: there is no {found[0]}; there are {known}")
        literal = _PLACEHOLDER.sub("", text)
        if "{" in literal or "}" in literal:
            raise ConfigError(f"path: a brace stands alone; there are {known}")
        for component in text.split("/"):
            longest = len(_PLACEHOLDER.sub("", component).encode())
            longest += NAME_LIMIT * len(_PLACEHOLDER.findall(component))
            if longest > _COMPONENT_LIMIT:
                raise ConfigError(f"path: {component!r} can become too long for a name")
        #: Literal text and, at odd places, the names of placeholders.
        self._parts = _PLACEHOLDER.split(os.path.abspath(text))

    def path(self, recipient: Recipient) -> str:
        """Return the path for one recipient."""
        parts = self._parts
        if len(parts) == 1:
            return parts[0]
        address = recipient.address
        values = {
            "user": address.local.lower().partition("+")[0],
            "domain": (address.domain or self._hostname).lower(),
            "tag": recipient.route.tag.lower(),
        }
        return "".join(
            safe_name(values[part]) if place % 2 else part for place, part in enumerate(parts)
        )
