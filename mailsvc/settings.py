"""The settings of a service: frozen, complete with defaults, one Struct for each section.

:mod:`mailsvc.config` makes them from a TOML file or from the command line.  Sizes are octets, times
seconds, rates events per second.  ``etc/mailsvc.toml`` shows every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from mailsvc.interfaces import IDelivererFactory
from mailsvc.places import Places
from mailsvc.routing import Rule
from mailsvc.units import Duration, Networks, Rate, RateLimit, Share, Size, Words

Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]

#: The destination that postmaster's mail goes to where no route takes it (requirement 14): the
#: service adds a maildir of this name in the spool directory unless the configuration has one.
POSTMASTER = "postmaster"

DEFAULT_SPOOL = "./mailsvc-data"

#: Standard Webhooks' schedule: seconds before the second, third … attempt.
SCHEDULE = tuple(
    Duration(seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)

LOOPBACK = Networks((ip_network("127.0.0.0/8"), ip_network("::1/128")))


class Listener(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[listener]]``: a port and who may come in there.

    :ivar endpoint: a Twisted server endpoint string without TLS and PROXY wrappers.
    :ivar role: ``mx`` (anyone, to routes only), ``submission`` (AUTH first) or ``lmtp``.
    :ivar tls: ``none``, ``starttls`` or ``implicit``.
    :ivar proxy: the peers whose PROXY header is required and believed; empty: no PROXY protocol.
    :ivar greeting_delay: how long the greeting waits, to catch those who talk first.
    :ivar bare_newline: what happens to content with a bare CR or LF.
    :ivar vrfy: whom VRFY answers truthfully.
    :ivar requiretls: whether REQUIRETLS (RFC 8689) is announced, under TLS.
    """

    endpoint: str
    role: Literal["mx", "submission", "lmtp"] = "mx"
    tls: Literal["none", "starttls", "implicit"] = "none"
    proxy: Networks = Networks()
    greeting_delay: Duration = Duration(0)
    bare_newline: Literal["refuse", "repair"] = "refuse"
    vrfy: Literal["never", "authenticated", "anyone"] = "never"
    requiretls: bool = False

    def __post_init__(self) -> None:
        _within("greeting_delay", self.greeting_delay, 0, 60)


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tls]``: TLS 1.2 and 1.3 are spoken.

    :ivar certificates: PEM files with key and chain, or directories of them, chosen by SNI.
    :ivar client_ca: a PEM file with the authorities of clients that may log in by certificate
        (AUTH EXTERNAL); empty: clients are not asked for one.
    """

    certificates: Words = Words()
    client_ca: str = ""


class Auth(Struct, frozen=True, forbid_unknown_fields=True):
    """``[auth]``: who may log in, and what failing to costs.

    :ivar users: the file that ``mailsvc passwd`` writes; empty: none.
    :ivar checkers: strcred descriptions, such as ``memory:user:secret`` or ``unix``.
    :ivar cleartext: whether PLAIN and LOGIN are taken without TLS.
    :ivar cram_md5: whether CRAM-MD5 is offered where a checker can serve it.
    :ivar own_senders: whether a user may send only as the own address.
    :ivar iterations: of PBKDF2, for verifiers that are written from now on.
    :ivar threads: how many passwords are checked at a time.
    :ivar failures: of one connection; the last of them is answered 421.
    :ivar delay: of the answer to a connection's first failure; each further one doubles it.
    :ivar longest_delay: the longest of these delays.
    :ivar address_free: failures of an address, over all connections, that cost it nothing yet.
    :ivar address_failures: those after which it is turned away without a check.
    :ivar user_free: failures of a user name, from anywhere, that cost nothing yet.
    :ivar user_delay: the longest wait that the failures of a user name cause.
    :ivar forget_after: how long it takes to forget one failure of an address or a user name.
    """

    users: str = ""
    checkers: tuple[str, ...] = ()
    cleartext: bool = False
    cram_md5: bool = False
    own_senders: bool = False
    iterations: Annotated[int, Meta(ge=4096, le=10_000_000)] = 600_000
    threads: Annotated[int, Meta(ge=1, le=64)] = 2
    failures: Annotated[int, Meta(ge=1, le=100)] = 5
    delay: Duration = Duration(1)
    longest_delay: Duration = Duration(16)
    address_free: Count = 5
    address_failures: Positive = 50
    user_free: Count = 10
    user_delay: Duration = Duration(4)
    forget_after: Duration = Duration(60)

    def __post_init__(self) -> None:
        _within("delay", self.delay, 0, 30)
        _within("longest_delay", self.longest_delay, 0, 60)
        _within("user_delay", self.user_delay, 0, 60)
        _within("forget_after", self.forget_after, 1)

    @property
    def configured(self) -> bool:
        """Say whether anyone can log in."""
        return bool(self.users or self.checkers)


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: what one client, one message and all of them together may take.

    :ivar header_size: octets of the header section.
    :ivar hops: Received fields, beyond which a message is taken to loop.
    :ivar refused_recipients: RCPT refused for good between two messages; 0 for no limit.
    :ivar messages: per connection; 0 for no limit.
    :ivar connection_rate: connections of one address; 0 for no limit.
    :ivar command_rate: commands of one address; 0 for no limit.
    :ivar spool: octets of disk that the spool may take.
    :ivar low_water: octets of the disk that stay free.
    :ivar content_memory: octets of content in memory over all connections.
    :ivar parse_memory: octets that the parsing of messages shares.
    :ivar exempt: networks without per-address limits, AUTH penalties and greeting delay.
    :ivar command_timeout: for a whole command to arrive.
    :ivar idle_timeout: between two pieces of content.
    :ivar content_timeout: for the whole content of a message.
    :ivar handshake_timeout: for TLS, and for a PROXY header.
    :ivar auth_timeout: for each step of AUTH.
    :ivar write_timeout: for a client to read what it was told before the connection is aborted.
    :ivar stop_timeout: for what is under way when the service stops.
    """

    message_size: Size = Size(50 * 2**20)
    header_size: Size = Size(2**20)
    recipients: Annotated[int, Meta(ge=100, le=100_000)] = 1000
    hops: Annotated[int, Meta(ge=25, le=1000)] = 100
    bad_commands: Annotated[int, Meta(ge=1, le=1000)] = 10
    refused_recipients: Count = 100
    messages: Count = 0
    connections: Positive = 10_000
    connections_per_address: Positive = 50
    connection_rate: RateLimit = RateLimit(5)
    command_rate: RateLimit = RateLimit(1000)
    spool: Size = Size(10 * 2**30)
    low_water: Size = Size(256 * 2**20)
    content_memory: Size = Size(64 * 2**20)
    parse_memory: Size = Size(256 * 2**20)
    exempt: Networks = LOOPBACK
    command_timeout: Duration = Duration(300)
    idle_timeout: Duration = Duration(180)
    content_timeout: Duration = Duration(3600)
    handshake_timeout: Duration = Duration(30)
    auth_timeout: Duration = Duration(60)
    write_timeout: Duration = Duration(60)
    stop_timeout: Duration = Duration(30)

    def __post_init__(self) -> None:
        for key, least in (
            ("message_size", 65_536),  # RFC 5321 section 4.5.3.1.7: 64 KiB at the least
            ("header_size", 8192),
            ("spool", 2**20),
            ("content_memory", 2**20),
            ("parse_memory", 2**20),
        ):
            if getattr(self, key) < least:
                raise ValueError(f"{key}: must be at least {least // 1024} KiB")
        for key in (
            "command_timeout",
            "idle_timeout",
            "content_timeout",
            "handshake_timeout",
            "auth_timeout",
            "write_timeout",
            "stop_timeout",
        ):
            _within(key, getattr(self, key), 1)


class Knobs(Struct, frozen=True):
    """The keys that every ``[destination.NAME]`` takes, beside its kind's own.

    :ivar concurrency: attempts under way at the same time; None: what is good for the kind.
    :ivar rate: attempts per second; None for no limit.
    :ivar schedule: the waits before the second, third … attempt; after the last, a dead letter.
    :ivar timeout: after which an attempt is ended and counts as failed.
    :ivar spool_share: the part of the spool that its mail may hold, dead letters included.
    :ivar breaker: failures in a row after which attempts stop for a time; 0 for never.
    :ivar breaker_time: how long they stop before one attempt probes; doubled if that fails, too.
    :ivar breaker_longest: the longest that they stop.
    """

    kind: str
    concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    rate: Rate | None = None
    schedule: tuple[Duration, ...] = SCHEDULE
    timeout: Duration = Duration(300)
    spool_share: Share = Share(0.5)
    breaker: Count = 10
    breaker_time: Duration = Duration(30)
    breaker_longest: Duration = Duration(300)

    def __post_init__(self) -> None:
        _within("timeout", self.timeout, 1)
        _within("breaker_time", self.breaker_time, 1)
        _within("breaker_longest", self.breaker_longest, self.breaker_time)
        if len(self.schedule) > 100:
            raise ValueError("schedule: must hold at most 100 times")


@dataclass(frozen=True)
class Destination:
    """``[destination.NAME]``: where mail goes.

    :ivar options: what ``factory.options`` made of the keys of the kind's own.
    """

    name: str
    knobs: Knobs
    options: Any
    factory: IDelivererFactory

    def describe(self) -> str:
        """Return name, kind and, where the options have one, URL or path, for people."""
        where = getattr(self.options, "url", "") or getattr(self.options, "path", "")
        # What follows a question mark may be a secret.
        return f"{self.name} ({' '.join([self.knobs.kind, *str(where).split('?')[:1]]).strip()})"


class RouteKeys(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[route]]``: whose mail goes where; the first that matches wins.

    :ivar to: one pattern or several.
    :ivar deliver: destinations' names.
    :ivar max_size: octets that a message may have here.
    :ivar auth: whether only authenticated senders may use the route.
    :ivar mode: ``queue``, or ``sync``: the destination's answer decides the SMTP reply.
    :ivar check_url: asked at RCPT time whether the recipient exists.
    :ivar allow_private: whether ``check_url`` may lead to private addresses.
    :ivar allow_networks: the networks that ``check_url`` may lead to beside public addresses.
    :ivar ca_file: the certificate authorities to trust for ``check_url`` instead of the system's.
    :ivar domains: the domains that a regular expression speaks for.
    """

    to: Words
    deliver: Words
    max_size: Size | None = None
    auth: Literal["optional", "required"] = "optional"
    mode: Literal["queue", "sync"] = "queue"
    check_url: str = ""
    allow_private: bool = False
    allow_networks: Networks = Networks()
    ca_file: str = ""
    domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size < 1024:
            raise ValueError("max_size: must be at least 1 KiB")


class Notifications(Struct, frozen=True, forbid_unknown_fields=True):
    """``[notifications]``.

    :ivar deliver: where delivery notifications (RFC 3464) go; empty: none are written and DSN is
        not announced.
    """

    deliver: Words = Words()


class Http(Struct, frozen=True, forbid_unknown_fields=True):
    """``[http]``: what mailsvc itself serves by HTTP.

    :ivar endpoint: a Twisted server endpoint string; empty: nothing is served.
    :ivar base_url: the URL by which receivers reach it; empty: attachments are always inline.
    :ivar attachment_ttl: how long a link to an attachment works.
    """

    endpoint: str = ""
    base_url: str = ""
    attachment_ttl: Duration = Duration(7 * 86_400)

    def __post_init__(self) -> None:
        _within("attachment_ttl", self.attachment_ttl, 60)


@dataclass(frozen=True)
class Settings:
    """Everything that a service is made from.

    :ivar spool: the spool directory.
    :ivar rules: the routes, as :class:`mailsvc.routing.Router` takes them.
    :ivar routes: the same routes, key by key.
    :ivar warnings: what works but is likely not meant; each with its place.
    :ivar places: finds the file and line of a key.
    """

    hostname: str
    spool: str = DEFAULT_SPOOL
    listeners: tuple[Listener, ...] = ()
    tls: Tls = field(default_factory=Tls)
    auth: Auth = field(default_factory=Auth)
    limits: Limits = field(default_factory=Limits)
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    routes: tuple[RouteKeys, ...] = ()
    rules: tuple[Rule, ...] = ()
    notifications: Notifications = field(default_factory=Notifications)
    http: Http = field(default_factory=Http)
    warnings: tuple[str, ...] = ()
    places: Places = field(default_factory=Places, compare=False)

    def locate(self, section: str, key: str = "") -> str:
        """Return ``FILE:LINE`` of a key, or of its section's header where the key is absent.

        :param section: ``limits``, ``destination.app``, ``listener.0``, ``route.2`` …; empty for
            the keys before the first section.
        """
        return self.places.locate(section, key)

    def problem(self, section: str, key: str, text: str) -> str:
        """Return ``text`` as ``FILE:LINE: [section] key: text``."""
        return self.places.problem(section, key, text)

    @property
    def kinds(self) -> dict[str, str]:
        """Return the kind of each destination, by name."""
        return {name: each.knobs.kind for name, each in self.destinations.items()}


def _within(key: str, seconds: float, least: float, most: float | None = None) -> None:
    if seconds < least:
        raise ValueError(f"{key}: must be at least {least:g} s")
    if most is not None and seconds > most:
        raise ValueError(f"{key}: must be at most {most:g} s")
