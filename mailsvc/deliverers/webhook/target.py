"""The URL of a webhook and what is needed to reach it, checked when the configuration is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import quote, urlsplit

import idna
from OpenSSL import crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from mailsvc.errors import ConfigError

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
#: What a URL may hold beside letters, digits and ``-._~`` (RFC 3986 section 2.2), and ``%``.
_RESERVED = "!#$%&'()*+,/:;=?@[]~"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_CERTIFICATES_LIMIT = 10_485_760


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that can be posted to.

    :ivar url: its octets, escaped.
    :ivar host: the name in ASCII, or an address without brackets.
    """

    url: bytes
    host: str
    secure: bool


def target(url: str) -> Target:
    """Return the parts of ``url``.

    :raises mailsvc.errors.ConfigError: it is none to post to (requirement 47).
    """
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url):
        raise ConfigError("url: it holds a space or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # What the error says may hold a password.
        raise ConfigError("url: its host or port cannot be read") from None
    if parts.scheme not in _PORTS:
        raise ConfigError("url: it must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ConfigError(
            "url: user and password do not belong here: use username and password_file"
        )
    if parts.fragment:
        raise ConfigError("url: a fragment (#...) is not sent; leave it out")
    if port == 0:
        raise ConfigError("url: there is no port 0")
    host = _host(parts.hostname or "")
    authority = f"[{host}]" if ":" in host else host
    if port is not None and port != _PORTS[parts.scheme]:
        authority += f":{port}"
    path = quote(parts.path or "/", safe=_RESERVED)
    query = f"?{quote(parts.query, safe=_RESERVED)}" if parts.query else ""
    text = f"{parts.scheme}://{authority}{path}{query}"
    return Target(text.encode("ascii"), host, parts.scheme == "https")


def _host(host: str) -> str:
    if ":" in host:
        try:
            return str(IPv6Address(host)) if "%" not in host else _no_host()
        except AddressValueError:
            _no_host()
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        _no_host()
    return name if _HOST.fullmatch(name) else _no_host()


def _no_host() -> str:
    raise ConfigError("url: its host is neither a name nor an address")


def tls_creator(host: str, ca_file: str) -> IOpenSSLClientConnectionCreator:
    """Return what makes verified TLS connections to ``host`` (requirement 50).

    Chain and name are always verified; ``ca_file`` replaces the system's authorities.  Blocking.

    :raises mailsvc.errors.ConfigError: ``ca_file`` cannot be used.
    """
    trust = None
    if ca_file:
        try:
            with open(ca_file, "rb") as file:
                octets = file.read(_CERTIFICATES_LIMIT)
        except OSError as error:
            raise ConfigError(f"ca_file: {ca_file} cannot be read: {error.strerror}") from None
        try:
            found = [Certificate.loadPEM(each) for each in _CERTIFICATE.findall(octets)]
        except crypto.Error:
            raise ConfigError(f"ca_file: {ca_file} holds a broken certificate") from None
        if not found:
            raise ConfigError(f"ca_file: {ca_file} holds no certificate in PEM")
        trust = trustRootFromCertificates(found)
    creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(host, trust)
    return creator
