"""What makes a host name, an endpoint string or a URL usable in a configuration.

Each function returns what is wrong, in words for people, or nothing.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from twisted.internet.endpoints import serverFromString

from mailsvc.patterns import canonical_domain
from mailsvc.spelling import did_you_mean

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")
_DIGITS = re.compile(r"[0-9]{1,5}")

_ENDPOINTS = ("tcp", "tcp6", "unix", "systemd")

#: What wraps another endpoint, and the key that does the same with our rules.
_WRAPPERS = {
    "tls": 'write the plain endpoint and the key tls = "implicit"',
    "ssl": 'write the plain endpoint and the key tls = "implicit"',
    "haproxy": 'write the plain endpoint and the key proxy = ["10.0.0.0/8"], with your proxies',
}


def hostname_fault(name: str) -> str:
    """Return what is wrong with a service's own name."""
    ascii_name = canonical_domain(name)
    if _is_address(name) or (ascii_name.isascii() and _is_address(ascii_name.strip("[]"))):
        return f'{name!r} is an address; write a name, such as "mx.example.com"'
    if len(ascii_name) > 253 or not _HOST.fullmatch(ascii_name):
        return f'{name!r} is not a host name, such as "mx.example.com"'
    return ""


def endpoint_fault(text: str) -> str:
    """Return what is wrong with a server endpoint string, by Twisted's rules and ours."""
    words, keys = endpoint_parts(text)
    kind = words[0] if words else ""
    if kind in _WRAPPERS:
        return f"{kind}: is not used here; {_WRAPPERS[kind]}"
    if kind == "systemd":
        return _systemd_fault(words, keys)
    if kind.isdigit():
        return f'{text!r} is no endpoint; did you mean "tcp:{text}"?'
    if kind in ("tcp", "tcp6"):
        port = keys.get("port", words[1] if len(words) > 1 else "")
        if not _DIGITS.fullmatch(port) or int(port) > 65535:
            return f'{text!r} needs a port from 0 to 65535, such as "{kind}:25"'
        if len(words) > 2:
            return (
                f"{text!r}: write one address as interface=ADDRESS, with a backslash before each"
                r" colon of an IPv6 address, such as 'tcp6:25:interface=\:\:1'"
            )
    try:
        serverFromString(None, text)
    except ValueError as error:
        if str(error).startswith("Unknown endpoint type"):
            known = ", ".join(f"{each}:" for each in _ENDPOINTS)
            return f"unknown endpoint {kind!r} ({known} ...){did_you_mean(kind, _ENDPOINTS)}"
        return f"{text!r} is no endpoint: {error}"
    except TypeError as error:
        # A parser of Twisted's is called with what the string holds: the message names functions.
        detail = re.sub(r"\S*_?[Pp]arse\w*\(\) ?", "", str(error))
        return f"{text!r} is no endpoint: {detail}"
    return ""


def endpoint_parts(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the words and the ``key=value`` parts of an endpoint string.

    Colons separate the parts; a backslash takes the next character's meaning away.
    """
    words: list[str] = []
    keys: dict[str, str] = {}
    for part in re.findall(r"(?:^|:)((?:[^:\\]|\\.)*)", text, re.DOTALL):
        key, equals, value = _split(part)
        if equals:
            keys[_plain(key)] = _plain(value)
        else:
            words.append(_plain(part))
    return words, keys


def is_loopback(endpoint: str) -> bool:
    """Say whether only this machine can reach an endpoint."""
    words, keys = endpoint_parts(endpoint)
    if words and words[0] == "unix":
        return True
    try:
        return ipaddress.ip_address(keys.get("interface", "")).is_loopback
    except ValueError:
        return False


def url_fault(text: str) -> str:
    """Return what is wrong with a URL that mailsvc fetches or gives out (requirement 47).

    The URL itself is not shown: a password or a token may be in it.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "this is not a URL: its host or port cannot be read"
    if parts.scheme not in ("http", "https"):
        return "write a URL that starts with https:// or http://"
    if parts.username is not None or parts.password is not None:
        return "a URL must not hold a user name or a password"
    if not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", text):
        return "this is not a URL"
    return ""


def goes_in_clear(url: str) -> bool:
    """Say whether what is sent to a URL leaves this machine without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    return host != "localhost" and not (
        _is_address(host) and ipaddress.ip_address(host).is_loopback
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _systemd_fault(words: list[str], keys: dict[str, str]) -> str:
    """Check a socket of systemd's: which ones are passed is known only when the service starts."""
    example = 'write "systemd:domain=INET6:name=smtp.socket" or index=0 in place of name'
    if len(words) > 1 or not set(keys) <= {"domain", "index", "name"}:
        return f"a systemd: endpoint has the parts domain, and name or index; {example}"
    if keys.get("domain") not in ("INET", "INET6", "UNIX"):
        return f"a systemd: endpoint needs domain=INET, INET6 or UNIX; {example}"
    if ("index" in keys) == ("name" in keys) or not keys.get("index", "0").isdigit():
        return f"a systemd: endpoint needs a name or an index; {example}"
    return ""


def _split(part: str) -> tuple[str, str, str]:
    found = re.match(r"((?:[^=\\]|\\.)*)=", part, re.DOTALL)
    return (found[1], "=", part[found.end() :]) if found else (part, "", "")


def _plain(part: str) -> str:
    return re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL)
