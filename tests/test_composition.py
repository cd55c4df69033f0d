"""Settings to parts: each key of ``[limits]``, ``[auth]`` and a listener gets where it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsvc.composition import Composition, compose
from mailsvc.config import read
from mailsvc.deliverers.plugins import installed
from mailsvc.events import Event
from mailsvc.listener import AdmissionLimits
from mailsvc.machine import Machine, machine_for
from mailsvc.penalties import Penalty
from mailsvc.rules import Timers
from mailsvc.service import spool_limits
from mailsvc.settings import Settings
from mailsvc.smtp.policy import Policy
from tests.issuer import Issuer

#: Every value is another one, so that none can stand in another's place.
LIMITS = """
message_size = "101 KiB"
header_size = "102 KiB"
recipients = 103
hops = 104
bad_commands = 105
refused_recipients = 122
messages = 106
connections = 107
connections_per_address = 108
connection_rate = "109/s"
command_rate = "110/s"
spool = "111 MiB"
low_water = "112 MiB"
content_memory = "113 MiB"
parse_memory = "114 MiB"
exempt = ["192.0.2.1"]
command_timeout = "115 s"
idle_timeout = "116 s"
content_timeout = "117 s"
handshake_timeout = "118 s"
auth_timeout = "119 s"
write_timeout = "120 s"
stop_timeout = "121 s"
"""
AUTH = """
failures = 3
delay = "2 s"
longest_delay = "4 s"
address_free = 6
address_failures = 7
user_free = 8
user_delay = "9 s"
forget_after = "10 s"
threads = 11
"""
KIB, MIB = 2**10, 2**20


@implementer(IReactorFromThreads)
class Reactor(MemoryReactorClock):
    """Has no thread but this one."""

    def callFromThread(
        self, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> None:
        callable(*args, **kwargs)


class CompositionTests(SynchronousTestCase):
    """Requirements 41 and 42: what a limit is called in a file is what it limits."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        issued = Issuer().issue("mx.example.com").write(self.directory / "mx.pem")
        self.tls = f'[tls]\ncertificates = "{issued}"\n'
        self.events: list[Event] = []

    def settings(self, listener: str = "", more: str = "") -> Settings:
        text = (
            f'hostname = "mx.example.com"\nspool = "{self.directory}/spool"\n'
            f'[[listener]]\nendpoint = "tcp:0:interface=127.0.0.1"\n{listener}\n'
            f'[destination.app]\nkind = "discard"\n[[route]]\nto = "*"\ndeliver = "app"\n{more}'
        )
        return read(text, "m.toml", installed().kinds)

    def machine(self, settings: Settings) -> Machine:
        machine = machine_for(settings, Reactor(), self.events.append, installed().kinds)
        self.addCleanup(machine.logins.stop)
        self.addCleanup(machine.deliveries.stop)
        return machine

    def compose(self, listener: str = "", more: str = "") -> Composition:
        settings = self.settings(listener, more)
        return compose(settings, self.machine(settings))

    def policy(self, listener: str = "", more: str = "") -> Policy:
        composition = self.compose(listener, more)
        return composition.policy(composition.settings.listeners[0])

    def test_limits(self) -> None:
        composition = self.compose(more=f"[limits]{LIMITS}")
        self.assertEqual(
            composition.timers,
            Timers(command=115, idle=116, content=117, handshake=118, auth=119, write=120),
        )
        self.assertEqual(composition.admission, AdmissionLimits(107, 108, 109, 110))
        spool = spool_limits(composition.settings)
        self.assertEqual(
            (spool.octets, spool.low_water, spool.content_memory), (111 * MIB, 112 * MIB, 113 * MIB)
        )
        self.assertEqual(
            composition.policy(composition.settings.listeners[0]),
            Policy(
                "mx.example.com",
                message_size=101 * KIB,
                header_size=102 * KIB,
                recipients=103,
                hops=104,
                bad_commands=105,
                refused_recipients=122,
                messages=106,
            ),
        )

    def test_what_a_failed_login_costs(self) -> None:
        """Requirement 33: also after a reload, which changes the rules and keeps the counts."""
        rules = Penalty(
            connection=3,
            first=2,
            most=4,
            address_free=6,
            address_most=7,
            user_free=8,
            user_most=9,
            drain=10,
        )
        more = f"[auth]{AUTH}[limits]{LIMITS}"
        machine = self.machine(self.settings(more=more))
        self.assertEqual(machine.penalties.rules, rules)
        self.assertEqual(
            [machine.penalties.exempt(host) for host in ("192.0.2.1", "127.0.0.1")], [True, False]
        )
        default = self.settings()
        later = self.machine(default)
        self.assertEqual(later.penalties.rules, Penalty())
        later.follow(default, self.settings(more=more))
        self.assertEqual(later.penalties.rules, rules)
        self.assertTrue(later.penalties.exempt("192.0.2.1"))
        self.assertEqual(self.policy(more=more).failures, 3)

    def test_a_listener(self) -> None:
        """What is announced is what the listener, and the rest of the file, can do."""
        users = f'[auth]\nusers = "{self.directory}/users"\n'
        (self.directory / "users").write_text("")
        default = Policy("mx.example.com")
        for listener, more, wanted in (
            ("", "", {}),
            ('role = "lmtp"', "", {"role": "lmtp"}),
            ('vrfy = "anyone"', "", {"vrfy": "anyone"}),
            ('bare_newline = "repair"', "", {"bare_newline": "repair"}),
            ('tls = "starttls"', self.tls, {"starttls": True}),
            ('tls = "implicit"', self.tls, {}),
            ('tls = "implicit"\nrequiretls = true', self.tls, {"requiretls": True}),
            ("", '[notifications]\ndeliver = "app"\n', {"notifications": True}),
            (
                'role = "submission"\ntls = "implicit"',
                users + self.tls,
                {
                    "role": "submission",
                    "auth_required": True,
                    "mechanisms": ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"),
                    "cleartext_mechanisms": ("SCRAM-SHA-256",),
                },
            ),
        ):
            policy = self.policy(listener, more)
            changed = {
                name: getattr(policy, name)
                for name in Policy.__dataclass_fields__
                if getattr(policy, name) != getattr(default, name)
            }
            self.assertEqual(changed, wanted, listener)
