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

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
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


def _split(text: str) -> list[str]:
    """Return literal text and, at odd places, the names of placeholders.

    :raises mailsvc.errors.ConfigError: a placeholder is unknown, or a brace stands alone.
    """
    known = " ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
    parts = [""]
    end = 0
    for token in _TOKEN.finditer(text):
        parts[-1] += text[end : token.start()]
        end = token.end()
        if token[0] in ("{{", "}}"):
            parts[-1] += token[0][0]
        elif token[1] is None:
            raise ConfigError(f"path: a brace stands alone; there are {known}, and {{{{ and }}}}")
        elif token[1] not in _PLACEHOLDERS:
            raise ConfigError(f"path: there is no {token[0]}; there are {known}")
        else:
            parts += [token[1], ""]
    parts[-1] += text[end:]
    return parts


class PathTemplate:
    """A path with ``{user}``, ``{domain}`` and ``{tag}`` in it; ``{{`` and ``}}`` are braces.

    :param text: as configured; a relative path begins in the working directory of now.
    :param hostname: stands for the domain of the bare ``postmaster``.
    :raises mailsvc.errors.ConfigError: ``text`` is no such path.
    """

    def __init__(self, text: str, hostname: str) -> None:
        self._hostname = hostname
        if not text or "\0" in text:
            raise ConfigError("path: it must name a directory")
        #: Literal text and, at odd places, the names of placeholders.
        self._parts = _split(os.path.normpath(text))
        longest = [0]
        for place, part in enumerate(self._parts):
            if place % 2:
                longest[-1] += NAME_LIMIT
                continue
            first, *others = part.split("/")
            longest[-1] += len(os.fsencode(first))
            longest.extend(len(os.fsencode(other)) for other in others)
        if max(longest) > _COMPONENT_LIMIT:
            raise ConfigError("path: a part of it can become too long for a file name")
        if not self._parts[0].startswith("/"):
            self._parts[0] = os.path.join(os.getcwd(), self._parts[0])

    @property
    def root(self) -> str:
        """Return the directory that all paths are in, or are."""
        literal = self._parts[0]
        return literal if len(self._parts) == 1 else os.path.dirname(literal)

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
