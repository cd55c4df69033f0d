"""What the connections of a listener go by: plain values, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from mailsvc.batch import Batch
from mailsvc.certificates import CertificateStore
from mailsvc.intake import Intake
from mailsvc.readers import Readers
from mailsvc.smtp.policy import Policy
from mailsvc.units import Networks


@dataclass(frozen=True, slots=True)
class Timers:
    """How long a peer may take, in seconds (requirement 41; RFC 5321 section 4.5.3.2).

    :ivar command: for a whole command to arrive.
    :ivar idle: between two pieces of content.
    :ivar content: for the whole content of a message.
    :ivar handshake: for TLS, and for a PROXY header.
    :ivar auth: for each response of an AUTH exchange.
    :ivar write: to read what it was told, before the connection is aborted.
    """

    command: float = 300
    idle: float = 180
    content: float = 3600
    handshake: float = 30
    auth: float = 60
    write: float = 60


@dataclass(frozen=True, slots=True)
class Rules:
    """What a listener's connections go by; a reload makes new ones for new connections.

    :ivar tls: how TLS starts: a context factory for STARTTLS, or None.
    :ivar certificates: knows which client certificates stood the test.
    :ivar proxies: the peers whose connections begin with a PROXY header.
    :ivar greeting_delay: seconds before the greeting; who talks before it is refused.
    :ivar readers: reads for plain transports; None: the reactor does.
    :ivar batch: does the work of a turn of the reactor together; None: each does its own at once.
    :ivar may_command: told a peer's host and how many commands it sent; False: too many.
    """

    policy: Policy
    intake: Intake
    clock: IReactorTime
    timers: Timers
    tls: Any = None
    certificates: CertificateStore | None = None
    proxies: Networks = Networks()
    greeting_delay: float = 0
    may_command: Callable[[str, int], bool] | None = None
    readers: Readers | None = None
    batch: Batch | None = None
