"""A configuration file: what it means, and what is said about a wrong one."""

from __future__ import annotations

import enum
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, cast

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailsvc import config
from mailsvc.configcheck import Findings, check
from mailsvc.conversion import Fault, convert_table, keys_of
from mailsvc.deliverers.discard import Discard
from mailsvc.deliverers.options import DiscardOptions, MaildirOptions, WebhookOptions
from mailsvc.deliverers.plugins import installed
from mailsvc.errors import ConfigError
from mailsvc.interfaces import IDeliverer, IDelivererContext, IDelivererFactory
from mailsvc.message import Address, Envelope, Recipient
from mailsvc.passwords import add
from mailsvc.places import Places
from mailsvc.routing import Router
from mailsvc.settings import SCHEDULE, Destination, Knobs, Settings
from mailsvc.spelling import did_you_mean, nearest
from mailsvc.spool.records import decode_envelope, encode_envelope
from mailsvc.testing import MemoryContent
from mailsvc.vetting import endpoint_fault, endpoint_parts, hostname_fault, is_loopback, url_fault
from tests.issuer import Issuer


class TeapotOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind's options with what the built-in ones lack."""

    spouts: int = 1
    handles: dict[str, int] = {}
    sizes: tuple[int, ...] = ()
    lid: bool | None = None
    kettle_file: str = ""


class GreedyOptions(msgspec.Struct):
    """Options that take a key of every destination."""

    timeout: str = ""


@implementer(IDelivererFactory)
class Kind:
    """A kind with the options of another, which makes what discards."""

    def __init__(self, kind: str, options: type) -> None:
        self.kind = kind
        self.options = options

    def make(self, options: object, context: IDelivererContext) -> IDeliverer:
        return Discard()


class Teapot(Kind):
    """A kind of a third party, which looks at its options when it is made."""

    def make(self, options: object, context: IDelivererContext) -> IDeliverer:
        assert isinstance(options, TeapotOptions)
        if options.spouts > 3:
            raise ConfigError(f"{options.spouts} spouts: no lid fits them")
        if options.kettle_file:
            try:
                with open(options.kettle_file):
                    pass
            except OSError as error:
                raise ConfigError(f"kettle_file: {error.strerror}") from None
        if options.lid:
            context.parse(MemoryContent(b""))
        if options.handles:
            raise TypeError(f"{len(options.handles)} handles")
        if options.sizes:
            return cast(IDeliverer, options.sizes)
        return super().make(options, context)


KINDS: dict[str, IDelivererFactory] = {
    kind: Kind(kind, options)
    for kind, options in {
        "discard": DiscardOptions,
        "greedy": GreedyOptions,
        "maildir": MaildirOptions,
        "teapot": TeapotOptions,
        "webhook": WebhookOptions,
    }.items()
}

WHOLE = """\
hostname = "mx.example.com"
spool = "/var/lib/mailsvc"

[[listener]]
endpoint = "tcp:25"
role = "mx"
tls = "starttls"

[[listener]]
endpoint = "tcp:465"
role = "submission"
tls = "implicit"

[tls]
certificates = "/etc/mailsvc/tls"

[auth]
users = "/etc/mailsvc/users"

[limits]
message_size = "50 MiB"
exempt = ["10.0.0.0/8"]

[destination.app]
kind = "webhook"
url = "https://app.example.com/inbound"
secret_file = "/etc/mailsvc/app.secret"
format = "mailsvc"
rate = "100/min"
schedule = ["1 s", "1 min"]
spool_share = "25 %"

[destination.archive]
kind = "maildir"
path = "/var/mail/{domain}/{user}"

[[route]]
to = ["support@example.com", "support+*@example.com"]
deliver = ["app", "archive"]

[[route]]
to = "*@example.com"
deliver = ["archive"]

[notifications]
deliver = "archive"

[http]
endpoint = "tcp:8025:interface=127.0.0.1"
base_url = "https://mail.example.com/"
attachment_ttl = "1 day"
"""

SMALL = """\
hostname = "mx.example.com"
[[listener]]
endpoint = "tcp:25"
[destination.box]
kind = "discard"
[[route]]
to = "*@example.com"
deliver = "box"
"""


class Readings(SynchronousTestCase):
    def read(self, text: str) -> Settings:
        return config.read(text, "m.toml", KINDS)

    def problems(self, text: str) -> list[str]:
        error = self.assertRaises(ConfigError, self.read, text)
        return list(error.problems)

    def with_line(self, after: str, line: str, text: str = SMALL) -> str:
        """Return the text with a line put behind another one."""
        self.assertIn(after, text)
        return text.replace(after, f"{after}\n{line}", 1)


class WholeFileTests(Readings):
    def test_submission_by_client_certificates(self) -> None:
        """AUTH EXTERNAL is a login like others, where there is TLS."""
        tls = '[tls]\ncertificates = "c.pem"\nclient_ca = "ca.pem"'
        for how in ("starttls", "implicit"):
            text = self.with_line(
                'endpoint = "tcp:25"', f'role = "submission"\ntls = "{how}"\n{tls}'
            )
            self.assertEqual(self.read(text).listeners[0].role, "submission")
        text = self.with_line('endpoint = "tcp:25"', f'role = "submission"\n{tls}')
        error = self.assertRaises(ConfigError, self.read, text)
        self.assertIn("a submission listener needs", str(error))

    def test_requiretls_for_webhooks_of_this_machine(self) -> None:
        for url in (
            "https://x.example/",
            "http://localhost/",
            "http://127.0.0.1:8/",
            "http://[::1]/",
        ):
            text = self.with_line(
                'endpoint = "tcp:25"',
                'tls = "starttls"\nrequiretls = true\n[tls]\ncertificates = "x.pem"\n'
                f'[destination.b]\nkind = "webhook"\nurl = "{url}"\nallow_private = true',
            )
            self.assertTrue(self.read(text).listeners[0].requiretls)

    def test_values(self) -> None:
        settings = self.read(WHOLE)
        self.assertEqual(settings.hostname, "mx.example.com")
        self.assertEqual(settings.spool, "/var/lib/mailsvc")
        self.assertEqual(
            [(each.endpoint, each.role, each.tls) for each in settings.listeners],
            [("tcp:25", "mx", "starttls"), ("tcp:465", "submission", "implicit")],
        )
        self.assertEqual(settings.tls.certificates, ("/etc/mailsvc/tls",))
        self.assertTrue(settings.auth.configured)
        self.assertEqual(settings.limits.message_size, 52_428_800)
        self.assertTrue(settings.limits.exempt.cover("10.1.2.3"))
        self.assertFalse(settings.limits.exempt.cover("127.0.0.1"))
        app = settings.destinations["app"]
        self.assertEqual(app.knobs.rate, 100 / 60)
        self.assertEqual(app.knobs.schedule, (1.0, 60.0))
        self.assertEqual(app.knobs.spool_share, 0.25)
        self.assertEqual(
            app.options,
            WebhookOptions(
                url="https://app.example.com/inbound", secret_file="/etc/mailsvc/app.secret"
            ),
        )
        self.assertEqual(settings.kinds, {"app": "webhook", "archive": "maildir"})
        self.assertEqual(settings.notifications.deliver, ("archive",))
        self.assertEqual(settings.http.attachment_ttl, 86_400)
        self.assertEqual(settings.warnings, ())

    def test_routes_as_the_router_takes_them(self) -> None:
        settings = self.read(WHOLE)
        router = Router(settings.rules, settings.hostname, kinds=settings.kinds)
        route = router.find(Address("support", "example.com"), authenticated=False)
        self.assertEqual(route.destinations, ("app", "archive"))
        self.assertEqual(settings.rules[0].place, "m.toml:37")
        self.assertIn("(m.toml:41)", router.explain("x@example.com")[0])

    def test_defaults(self) -> None:
        settings = self.read(SMALL)
        self.assertEqual(settings.spool, "./mailsvc-data")
        self.assertEqual(settings.listeners[0].role, "mx")
        self.assertFalse(settings.auth.configured)
        self.assertTrue(settings.limits.exempt.cover("::1"))
        self.assertEqual(settings.destinations["box"].knobs.schedule, SCHEDULE)
        self.assertEqual(settings.notifications.deliver, ())

    def test_the_same_text_makes_equal_settings(self) -> None:
        self.assertEqual(
            self.read(WHOLE), config.read(WHOLE, "other.toml", KINDS) and self.read(WHOLE)
        )
        self.assertNotEqual(self.read(WHOLE), self.read(WHOLE.replace("50 MiB", "51 MiB")))

    def test_locate(self) -> None:
        settings = self.read(WHOLE)
        self.assertEqual(settings.locate("destination.app", "url"), "m.toml:26")
        self.assertEqual(settings.locate("destination.app", "breaker"), "m.toml:24")
        self.assertEqual(settings.locate("listener.1", "role"), "m.toml:11")
        self.assertEqual(
            settings.problem("listener.1", "endpoint", "is taken"),
            "m.toml:10: [[listener]] endpoint: is taken",
        )

    def test_load_reads_a_file(self) -> None:
        path = self.mktemp()
        Path(path).write_text(WHOLE, "utf-8")
        self.assertEqual(config.load(path, KINDS).hostname, "mx.example.com")

    def test_a_byte_order_mark(self) -> None:
        path = Path(self.mktemp())
        path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
        self.assertEqual(config.load(str(path), KINDS).hostname, "mx.example.com")

    def test_a_size_of_a_route_can_be_stored(self) -> None:
        """What a file says of a route goes into the envelopes of its mail."""
        text = SMALL.replace("[[route]]", '[[route]]\nmax_size = "2 KiB"', 1)
        settings = config.read(text, "m.toml", KINDS)
        router = Router(settings.rules, settings.hostname)
        address = Address("ann", "example.com")
        route = router.find(address, authenticated=False)
        self.assertEqual(route.max_size, 2048)
        envelope = Envelope("x", 0.0, None, (Recipient(address, route),))
        self.assertEqual(decode_envelope(encode_envelope(envelope)), envelope)

    def test_no_file(self) -> None:
        error = self.assertRaises(ConfigError, config.load, "/nonexistent/m.toml", KINDS)
        self.assertEqual(
            error.problems, ("/nonexistent/m.toml: cannot be read: No such file or directory",)
        )

    def test_no_utf8(self) -> None:
        path = self.mktemp()
        Path(path).write_bytes(b'hostname = "x"\n# caf\xe9\n')
        error = self.assertRaises(ConfigError, config.load, path, KINDS)
        self.assertEqual(error.problems, (f"{path}:2: this is not UTF-8",))

    def test_no_toml(self) -> None:
        self.assertEqual(
            self.problems('hostname = "x"\nspool = nope\n'),
            ["m.toml:2: column 9: this is not TOML: Invalid value"],
        )
        self.assertEqual(
            self.problems('hostname = "x"\nspool = """x\n'),
            ["m.toml:2: end of file: this is not TOML: Unterminated string"],
        )

    def test_no_reactor(self) -> None:
        """Reading a configuration installs no reactor: the command line tool needs none."""
        code = "import mailsvc.config, mailsvc.configcheck, sys;" + (
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)


class ProblemTests(Readings):
    def test_the_first_problem_of_every_section_and_every_dangling_name(self) -> None:
        text = """\
hostnam = "mx.example.com"

[[listener]]
endpoint = "tcp:25"
rol = "mx"
tlss = "none"

[[listener]]
endpoint = "tcp:587"
role = "submision"

[limits]
message_size = 50

[destination.app]
kind = "webhok"

[destination.archive]
kind = "maildir"
pth = "/var/mail"

[[route]]
to = "a@example.com"
deliver = ["ap", "archive", "other"]

[[route]]
to = "not a pattern"
deliver = "arxive"

[notifications]
deliver = "archives"
"""
        found = self.problems(text)
        expected = [
            "m.toml:1: hostnam: unknown key; did you mean 'hostname'?",
            'm.toml:1: hostname: is missing: the name of this server, "mx.example.com"',
            "m.toml:5: [[listener]] rol: unknown key; did you mean 'role'?",
            "m.toml:10: [[listener]] role: unknown word 'submision'"
            ' (one of "mx", "submission", "lmtp"); did you mean \'submission\'?',
            "m.toml:13: [limits] message_size: a bare number has no unit;"
            ' write a size with its unit, such as "50 MiB"',
            "m.toml:16: [destination.app] kind: unknown kind 'webhok'"
            " (there are discard, greedy, maildir, teapot, webhook); did you mean 'webhook'?",
            "m.toml:20: [destination.archive] pth: unknown key; did you mean 'path'?",
            "m.toml:24: [[route]] deliver: there is no destination 'ap'; did you mean 'app'?",
            "m.toml:24: [[route]] deliver: there is no destination 'other'"
            " (there are: app, archive)",
            "m.toml:27: [[route]] to: 'not a pattern' is no pattern;"
            " write an address, a domain, *@domain or /expression/",
            "m.toml:28: [[route]] deliver: there is no destination 'arxive';"
            " did you mean 'archive'?",
            "m.toml:31: [notifications] deliver: there is no destination 'archives';"
            " did you mean 'archive'?",
        ]
        self.assertEqual(found, expected)

    def test_one_wrong_line_is_one_problem(self) -> None:
        cases = {
            ('hostname = "mx.example.com"', "spool = 5"): (
                2,
                "spool: must be a directory's path, in quotes",
            ),
            ('hostname = "mx.example.com"', 'message_size = "1 MiB"'): (
                2,
                "message_size: unknown key here; it belongs under [limits]",
            ),
            ('hostname = "mx.example.com"', "auth = 5"): (
                2,
                "[auth]: must be one table: write [auth]",
            ),
            ('endpoint = "tcp:25"', 'tls = "starttls"'): (
                4,
                '[[listener]] tls: "starttls" needs the key certificates under [tls]',
            ),
            ('endpoint = "tcp:25"', 'role = "submission"'): (
                4,
                "[[listener]] role: a submission listener needs the key users or checkers"
                " under [auth]",
            ),
            ('endpoint = "tcp:25"', 'role = "lmtp"'): (
                3,
                "[[listener]] endpoint: LMTP must not use port 25, which is SMTP's",
            ),
            ('endpoint = "tcp:25"', "requiretls = true"): (
                4,
                "[[listener]] requiretls: needs TLS on this listener",
            ),
            (
                'endpoint = "tcp:25"',
                'tls = "starttls"\nrequiretls = true\n'
                '[tls]\ncertificates = "x.pem"\n'
                '[destination.clear]\nkind = "webhook"\nurl = "http://192.0.2.1/"',
            ): (
                5,
                "[[listener]] requiretls: cannot be kept: mail to 'clear' goes on without TLS",
            ),
            ('endpoint = "tcp:25"', "requiretls = 1"): (
                4,
                "[[listener]] requiretls: must be true or false, not a whole number",
            ),
            ('endpoint = "tcp:25"', 'greeting_delay = "61 s"'): (
                4,
                "[[listener]] greeting_delay: must be at most 60 s",
            ),
            ('endpoint = "tcp:25"', 'proxy = ["10.0.0.0/8", "x"]'): (
                4,
                "[[listener]] proxy: 'x' is not a network; write an address or a network,"
                ' such as "10.0.0.0/8"',
            ),
            ('endpoint = "tcp:25"', '[[listener]]\nendpoint = "tcp:25"'): (
                5,
                "[[listener]] endpoint: m.toml:3 listens there already",
            ),
            ('endpoint = "tcp:25"', '[[listener]]\nrole = "mx"'): (
                4,
                "[[listener]] endpoint: is missing",
            ),
            ('endpoint = "tcp:25"', "[limits]\nrecipients = 99"): (
                5,
                "[limits] recipients: must be at least 100",
            ),
            ('endpoint = "tcp:25"', '[limits]\nmessage_size = "1 KiB"'): (
                5,
                "[limits] message_size: must be at least 64 KiB",
            ),
            ('endpoint = "tcp:25"', '[limits]\nidle_timeout = "0 s"'): (
                5,
                "[limits] idle_timeout: must be at least 1 s",
            ),
            ('endpoint = "tcp:25"', '[limits]\nexempt = ["10.0.0.0/8", 5]'): (
                5,
                "[limits] exempt: not a network; write an address or a network,"
                ' such as "10.0.0.0/8"',
            ),
            ('endpoint = "tcp:25"', '[http]\nbase_url = "https://x.test/"'): (
                5,
                "[http] base_url: needs the key endpoint, where it is served",
            ),
            ('endpoint = "tcp:25"', '[http]\nendpoint = "tcp:1"\nbase_url = "ftp://x/"'): (
                6,
                "[http] base_url: write a URL that starts with https:// or http://",
            ),
            ('endpoint = "tcp:25"', '[http]\nendpoint = "tls:1"'): (
                5,
                "[http] endpoint: tls: is not used here;"
                ' write the plain endpoint and the key tls = "implicit"',
            ),
            ('endpoint = "tcp:25"', "[auth]\ncheckers = [5]"): (
                5,
                "[auth] checkers: item 1: must be a text in quotes, not a whole number",
            ),
            ('kind = "discard"', "concurrency = 0"): (
                6,
                "[destination.box] concurrency: must be at least 1",
            ),
            ('kind = "discard"', 'schedule = ["5 s", 5]'): (
                6,
                "[destination.box] schedule: item 2: a bare number has no unit; write a time with"
                ' its unit, such as "30 s", "5 min", "2 h" or "7 days"',
            ),
            ('kind = "discard"', 'breaker_time = "10 min"'): (
                4,
                "[destination.box] breaker_longest: must be at least 600 s",
            ),
            ('kind = "discard"', '[destination."a.b"]\nkind = "discard"'): (
                6,
                "[destination.a.b]: 'a.b' is no name: letters, digits, - and _, at most 64",
            ),
            ('kind = "discard"', '[destination.x]\nlid = "a"'): (
                6,
                "[destination.x] kind: is missing"
                " (one of discard, greedy, maildir, teapot, webhook)",
            ),
            ('kind = "discard"', "[destination.x]\nkind = 5"): (
                7,
                "[destination.x] kind: unknown kind 5"
                " (there are discard, greedy, maildir, teapot, webhook)",
            ),
            ('kind = "discard"', '[destination.x]\nkind = "greedy"'): (
                7,
                "[destination.x] kind: the kind greedy has an option timeout,"
                " as every destination has",
            ),
            ('kind = "discard"', '[destination.x]\nkind = "webhook"'): (
                6,
                "[destination.x] url: is missing",
            ),
            ('kind = "discard"', '[destination.x]\nkind = "webhook"\nurl = "x"\nrat = "1/s"'): (
                9,
                "[destination.x] rat: unknown key; did you mean 'rate'?",
            ),
            ('kind = "discard"', '[destination.x]\nkind = "teapot"\nspouts = "2"'): (
                8,
                "[destination.x] spouts: must be a whole number, not a text in quotes",
            ),
            ('kind = "discard"', '[destination.x]\nkind = "teapot"\nlid = 1979-05-27'): (
                8,
                "[destination.x] lid: must be true or false, not a date",
            ),
            ('kind = "discard"', '[destination.x]\nkind = "teapot"\nsizes = [1, "b"]'): (
                8,
                "[destination.x] sizes: item 2: must be a whole number, not a text in quotes",
            ),
            (
                'kind = "discard"',
                '[destination.x]\nkind = "teapot"\n[destination.x.handles]\na = 1.5',
            ): (8, "[destination.x] handles: must be a whole number, not a number"),
            ('deliver = "box"', 'max_size = "1 B"'): (
                9,
                "[[route]] max_size: must be at least 1 KiB",
            ),
            ('deliver = "box"', 'domains = ["a.test"]'): (
                9,
                "[[route]] domains: is for regular expressions; the patterns name theirs",
            ),
            ('deliver = "box"', 'check_url = "https://u:p@x.test/"'): (
                9,
                "[[route]] check_url: a URL must not hold a user name or a password",
            ),
            ('deliver = "box"', '[[route]]\nto = "/x/"\ndeliver = "box"'): (
                10,
                "[[route]] to: '/x/': a regular expression needs the key domains, which says whose"
                ' addresses it may take, such as domains = ["example.com"]',
            ),
            ('deliver = "box"', '[[route]]\nto = []\ndeliver = "box"'): (
                10,
                "[[route]] to: must not be empty",
            ),
            ('deliver = "box"', '[[route]]\nto = "a@b.c"'): (9, "[[route]] deliver: is missing"),
            ('deliver = "box"', 'auth = "require"'): (
                9,
                '[[route]] auth: unknown word \'require\' (one of "optional", "required");'
                " did you mean 'required'?",
            ),
        }
        for (after, line), (number, problem) in cases.items():
            self.assertEqual(
                self.problems(self.with_line(after, line)), [f"m.toml:{number}: {problem}"]
            )

    def test_a_sync_route_has_one_destination(self) -> None:
        text = self.with_line('kind = "discard"', '[destination.two]\nkind = "discard"')
        text = text.replace('deliver = "box"', 'deliver = ["box", "two"]\nmode = "sync"')
        self.assertEqual(
            self.problems(text),
            ["m.toml:10: [[route]] deliver: a sync route has one destination: its answer decides"],
        )

    def test_shapes(self) -> None:
        self.assertEqual(
            self.problems(SMALL.replace("[[listener]]", "[listener]")),
            ["m.toml:2: [listener]: is an array of tables: write [[listener]]"],
        )
        self.assertEqual(
            self.problems(SMALL.replace("[destination.box]", "[destination]")),
            [
                "m.toml:4: [destination]: each destination has a name: write [destination.NAME]",
                "m.toml:8: [[route]] deliver: there is no destination 'box' (there are none)",
            ],
        )
        self.assertEqual(
            self.problems(
                "destination.x = 5\n" + SMALL.replace("[destination.box]", "[destination.y]")
            ),
            [
                "m.toml:1: [destination] x: must be a table: write [destination.x]",
                "m.toml:9: [[route]] deliver: there is no destination 'box' (there are: x, y)",
            ],
        )

    def test_nothing_is_there(self) -> None:
        self.assertEqual(
            self.problems('hostname = "mx.example.com"'),
            [
                "m.toml:1: there is no [[listener]]: at least one is needed",
                "m.toml:1: there is no [[route]]: at least one is needed",
            ],
        )

    def test_no_destinations(self) -> None:
        text = SMALL.replace('[destination.box]\nkind = "discard"\n', "")
        self.assertEqual(
            self.problems(text),
            ["m.toml:6: [[route]] deliver: there is no destination 'box' (there are none)"],
        )

    def test_hostnames(self) -> None:
        for value, problem in {
            "5": "must be a text in quotes",
            '"192.0.2.1"': "'192.0.2.1' is an address; write a name, such as \"mx.example.com\"",
            '"a b"': "'a b' is not a host name, such as \"mx.example.com\"",
        }.items():
            self.assertEqual(
                self.problems(SMALL.replace('"mx.example.com"', value)),
                [f"m.toml:1: hostname: {problem}"],
            )

    def test_plugins_that_failed_to_import_are_named_where_a_kind_is_unknown(self) -> None:
        text = SMALL.replace('"discard"', '"pigeon"')
        error = self.assertRaises(
            ConfigError, config.read, text, "m.toml", KINDS, ["pigeons: ImportError: no coop"]
        )
        self.assertEqual(
            error.problems,
            (
                "m.toml:5: [destination.box] kind: unknown kind 'pigeon' (there are discard,"
                " greedy, maildir, teapot, webhook); pigeons: ImportError: no coop",
            ),
        )

    def test_the_built_in_kinds_take_no_key_of_every_destination(self) -> None:
        for options in (DiscardOptions, MaildirOptions, WebhookOptions):
            self.assertEqual(set(keys_of(options)) & set(keys_of(Knobs)), set())


class WarningTests(Readings):
    def warnings(self, text: str) -> list[str]:
        return list(self.read(text).warnings)

    def test_submission_without_tls(self) -> None:
        text = self.with_line('endpoint = "tcp:25"', 'role = "submission"\n[auth]\nusers = "u"')
        [warning] = self.warnings(text)
        self.assertIn("[[listener]] tls: a submission listener without TLS", warning)
        self.assertEqual(self.warnings(text.replace("tcp:25", "unix:/run/x")), [])

    def test_passwords_in_the_clear(self) -> None:
        text = self.with_line('endpoint = "tcp:25"', '[auth]\nusers = "u"\ncleartext = true')
        self.assertEqual(
            self.warnings(text), ["m.toml:6: [auth] cleartext: passwords cross tcp:25 unprotected"]
        )

    def test_a_limit_that_cannot_hold(self) -> None:
        text = self.with_line('deliver = "box"', 'max_size = "51 MiB"')
        self.assertEqual(
            self.warnings(text), ["m.toml:9: [[route]] max_size: is above [limits] message_size"]
        )

    def test_keys_of_a_recipient_check_that_is_not_made(self) -> None:
        for key in (
            "allow_private = true",
            'allow_networks = ["10.0.0.0/8"]',
            'ca_file = "/authority.pem"',
        ):
            text = self.with_line('deliver = "box"', key)
            [warning] = self.warnings(text)
            name = key.split()[0]
            self.assertIn(f"m.toml:9: [[route]] {name}: is for check_url, which", warning)
            asks = self.with_line('deliver = "box"', f'check_url = "https://x.test/"\n{key}')
            self.assertEqual(self.warnings(asks), [])

    def test_a_route_that_is_never_reached(self) -> None:
        text = self.with_line('deliver = "box"', '[[route]]\nto = "a@example.com"\ndeliver = "box"')
        self.assertEqual(
            self.warnings(text),
            [
                "m.toml:10: [[route]] to: a@example.com is never reached:"
                " *@example.com (m.toml:6) comes first"
            ],
        )

    def test_a_destination_that_nothing_uses(self) -> None:
        text = self.with_line('kind = "discard"', '[destination.spare]\nkind = "discard"')
        self.assertEqual(
            self.warnings(text), ["m.toml:6: [destination.spare]: no route delivers there"]
        )
        self.assertEqual(self.warnings(text.replace("spare", "postmaster")), [])


class Shape(enum.Enum):
    ROUND = "round"
    FLAT = "flat"


class Handle(msgspec.Struct, forbid_unknown_fields=True):
    length: int


class Pot(msgspec.Struct):
    shape: Shape = Shape.ROUND
    handles: list[Handle] = []
    volume: Annotated[float, msgspec.Meta(lt=2)] = 1.0
    name: Annotated[str, msgspec.Meta(min_length=1)] = "x"


class ConversionTests(SynchronousTestCase):
    """What a plugin's options may hold that ours do not."""

    def test_faults(self) -> None:
        for table, (key, text) in {
            '{"shape":"flatt"}': (
                "shape",
                "unknown word 'flatt' (one of \"round\", \"flat\"); did you mean 'flat'?",
            ),
            '{"handles":[{"length":1},{"lenght":1}]}': ("handles", "item 2: unknown key 'lenght'"),
            '{"handles":[{}]}': ("handles", "item 1: length is missing"),
            '{"handles":[{"length":"x"}]}': (
                "handles",
                "item 1, length: must be a whole number, not a text in quotes",
            ),
            '{"volume":2}': ("volume", "must be less than 2.0"),
            '{"name":""}': ("name", "its length must be at least 1"),
        }.items():
            fault = self.assertRaises(Fault, convert_table, json.loads(table), Pot)
            self.assertEqual((fault.key, fault.text), (key, text))


class PlaceTests(SynchronousTestCase):
    TEXT = """\
# hostname = "no"
"hostname" = "x"
limits.hops = 50
words = [
  "a = 1",
  "[nothing]",
]
text = \"\"\"
[not.a.header]
spool = "no"
\"\"\"
spool = "yes"  # [[listener]]

[ destination . "app" ]  # here
headers = { kind = 1 }
kind = 'x[y'
[[route]]
to = "a"
[route.extra]
deep = 1
[[route]]
to = "b"
"""

    def test_lines(self) -> None:
        places = Places("f", self.TEXT)
        for (section, key), line in {
            ("", "hostname"): 2,
            ("limits", "hops"): 3,
            ("limits", "other"): 1,
            ("", "spool"): 12,
            ("destination.app", ""): 14,
            ("destination.app", "kind"): 16,
            ("destination.app", "nothing"): 14,
            ("route.0", "to"): 18,
            ("route.0", "extra"): 19,
            ("route.0.extra", "deep"): 20,
            ("route.1", "to"): 22,
            ("route.1", ""): 21,
            ("route", ""): 17,
            ("listener", ""): 1,
            ("not.a.header", ""): 1,
        }.items():
            self.assertEqual(places.line(section, key), line, (section, key))

    def test_without_a_file(self) -> None:
        self.assertEqual(Places().problem("limits", "hops", "x"), "command line: [limits] hops: x")


class SpellingTests(SynchronousTestCase):
    def test_nearest(self) -> None:
        known = ("message_size", "header_size", "hops")
        self.assertEqual(nearest("Message-Size", known), "message_size")
        self.assertEqual(nearest("mesage_size", known), "message_size")
        self.assertIsNone(nearest("banana", known))
        self.assertEqual(did_you_mean("hop", known), "; did you mean 'hops'?")
        self.assertEqual(did_you_mean("banana", known), "")


class VettingTests(SynchronousTestCase):
    def test_good_endpoints(self) -> None:
        for text in (
            "tcp:25",
            "tcp6:25",
            "tcp:0:interface=127.0.0.1",
            "tcp:port=25",
            r"tcp6:25:interface=\:\:1",
            "tcp:25:backlog=100",
            "unix:/run/mailsvc/lmtp.sock:mode=660",
            "systemd:domain=INET6:name=smtp",
            "systemd:domain=INET:index=0",
        ):
            self.assertEqual(endpoint_fault(text), "", text)

    def test_bad_endpoints(self) -> None:
        for text, message in {
            "tls:465:tcp:465": 'the key tls = "implicit"',
            "ssl:465": 'the key tls = "implicit"',
            "haproxy:tcp:25": 'the key proxy = ["10.0.0.0/8"]',
            "25": 'did you mean "tcp:25"?',
            "": "unknown endpoint ''",
            "tpc:25": "did you mean 'tcp'?",
            "tcp": "needs a port",
            "tcp:smtp": "needs a port",
            "tcp:70000": "needs a port",
            "tcp6:25:interface=::1": "with a backslash before each colon",
            "tcp:25:127.0.0.1": "interface=ADDRESS",
            "tcp:25:bogus=1": "unexpected keyword argument 'bogus'",
            "tcp:25:backlog=x": "is no endpoint",
            "unix": "missing 1 required positional argument",
            "systemd:0": "has the parts domain",
            "systemd:domain=INET:bogus=1": "has the parts domain",
            "systemd:index=0": "needs domain=INET",
            "systemd:domain=INET": "needs a name or an index",
            "systemd:domain=INET:index=x": "needs a name or an index",
        }.items():
            self.assertIn(message, endpoint_fault(text), text)

    def test_parts(self) -> None:
        self.assertEqual(
            endpoint_parts(r"unix:a\:b\=c:mode=6\=6:x"),
            (["unix", "a:b=c", "x"], {"mode": "6=6"}),
        )

    def test_loopback(self) -> None:
        for text in ("tcp:1:interface=127.0.0.9", r"tcp6:1:interface=\:\:1", "unix:/x"):
            self.assertTrue(is_loopback(text), text)
        for text in ("tcp:1", "tcp:1:interface=0.0.0.0", "tcp:1:interface=localhost", "systemd:x"):
            self.assertFalse(is_loopback(text), text)

    def test_urls(self) -> None:
        """Requirement 47: http and https only, no user name or password."""
        for text in ("https://a.test/", "http://[::1]:80/x?y", "http://127.0.0.1:3000/inbound"):
            self.assertEqual(url_fault(text), "", text)
        for text, message in {
            "a.test": "starts with https://",
            "ftp://a.test/": "starts with https://",
            "https://u@a.test/": "must not hold a user name",
            "https://:p@a.test/": "must not hold a user name",
            "https:///x": "is not a URL",
            "https://a.test:0/": "is not a URL",
            "https://a.test:99999/": "is not a URL",
            "https://[::1/": "is not a URL",
            "https://a.test/a b": "is not a URL",
        }.items():
            self.assertIn(message, url_fault(text), text)
        # Requirement 52: what is in it may be a secret.
        for text in ("https://u:hunter2#@a.test/", "a.test/?hunter2", "https://a b/?hunter2"):
            self.assertNotEqual(url_fault(text), "")
            self.assertNotIn("hunter2", url_fault(text))

    def test_hostnames(self) -> None:
        for name in ("localhost", "mx.example.com", "bücher.example", "a-b.c"):
            self.assertEqual(hostname_fault(name), "", name)
        for name in ("", "a..b", "-a.b", "a.b.", "x" * 64, "a_b.c", "[192.0.2.1]", "::1", "é..b"):
            self.assertNotEqual(hostname_fault(name), "", name)


class CheckTests(SynchronousTestCase):
    """What only the machine can tell."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def path(self, name: str, text: str | None = None, mode: int = 0o600) -> str:
        path = os.path.join(self.directory, name)
        if text is not None:
            Path(path).write_text(text, "utf-8")
            os.chmod(path, mode)
        return path

    def settings(self, **changes: str) -> Settings:
        text = SMALL
        for before, after in {
            '"mx.example.com"': f'"mx.example.com"\nspool = "{self.path("spool")}"',
            **changes,
        }.items():
            self.assertIn(before, text)
            text = text.replace(before, after, 1)
        kinds = {**KINDS, **installed().kinds, "teapot": Teapot("teapot", TeapotOptions)}
        return config.read(text, "m.toml", kinds)

    def problems(self, settings: Settings) -> list[str]:
        return list(check(settings, Clock(), lambda: 0.0).problems)

    def test_nothing_is_wrong(self) -> None:
        self.assertEqual(self.problems(self.settings()), [])
        os.mkdir(self.path("spool"))
        self.assertEqual(self.problems(self.settings()), [])
        self.assertEqual(os.listdir(self.directory), ["spool"])

    def test_warnings_of_the_file_are_kept(self) -> None:
        settings = self.settings(
            **{'kind = "discard"': 'kind = "discard"\n[destination.x]\nkind = "discard"'}
        )
        self.assertEqual(check(settings, Clock()).warnings, settings.warnings)
        self.assertEqual(len(settings.warnings), 1)

    def test_spool(self) -> None:
        self.path("spool", "a file")
        [problem] = self.problems(self.settings())
        self.assertEqual(problem, f"m.toml:2: spool: {self.path('spool')} is not a directory")
        settings = config.read(
            SMALL.replace('"mx.example.com"', '"x.y"\nspool = "/dev/null/spool"'), "m.toml", KINDS
        )
        [problem] = self.problems(settings)
        self.assertIn(
            "spool: /dev/null/spool cannot be made: /dev/null is not a directory", problem
        )

    def test_users(self) -> None:
        path = self.path("users")
        settings = self.settings(
            **{"[destination.box]": f'[auth]\nusers = "{path}"\n[destination.box]'}
        )
        [problem] = self.problems(settings)
        self.assertIn(f"m.toml:6: [auth] users: {path}: No such file", problem)
        self.assertIn("`mailsvc passwd --config FILE add USER` makes it", problem)
        add(path, "alice", "secret", 4096)
        self.assertEqual(self.problems(settings), [])
        self.path("users", "nonsense")
        [problem] = self.problems(settings)
        self.assertIn("[auth] users:", problem)
        self.assertNotIn("makes it", problem)

    def test_checkers(self) -> None:
        settings = self.settings(
            **{
                "[destination.box]": '[auth]\ncheckers = ["memory:a:b", "oracle"]\n'
                "[destination.box]"
            }
        )
        [problem] = self.problems(settings)
        self.assertIn("m.toml:6: [auth] checkers: no checker 'oracle'; installed are ", problem)

    def test_recipient_checks(self) -> None:
        settings = self.settings(
            **{'deliver = "box"': 'deliver = "box"\ncheck_url = "https://x.test/#a"'},
        )
        [problem] = self.problems(settings)
        self.assertIn("[[route]] check_url: a fragment", problem)

    def test_authorities_of_recipient_checks(self) -> None:
        """Each route's ``ca_file`` is looked at, and one URL has one."""
        asks = 'deliver = "box"\ncheck_url = "https://x.test/"'
        missing = self.path("none.pem")
        keys = f'{asks}\nca_file = "{missing}"'
        [problem] = self.problems(self.settings(**{'deliver = "box"': keys}))
        self.assertIn(f"[[route]] ca_file: {missing} cannot be read", problem)
        trust = [self.path(f"{name}.pem") for name in ("one", "two")]
        for path in trust:
            Path(path).write_bytes(Issuer().pem)
        one, two = (f'{asks}\nca_file = "{path}"\n' for path in trust)
        for first, second, count in ((one, one, 0), (one, f"{asks}\n", 0), (one, two, 1)):
            keys = f'{first}[[route]]\nto = "other.test"\n{second}'
            self.assertEqual(len(self.problems(self.settings(**{'deliver = "box"': keys}))), count)

    def test_certificates(self) -> None:
        settings = self.settings(
            **{
                "[destination.box]": f'[tls]\ncertificates = "{self.path("no")}"\n'
                "[destination.box]",
            }
        )
        problems = self.problems(settings)
        self.assertTrue(problems)
        self.assertTrue(problems[0].startswith("m.toml:6: [tls] certificates: "), problems)

    def test_sockets(self) -> None:
        settings = self.settings(**{'"tcp:25"': '"unix:/nonexistent/socket"'})
        found = check(settings, Clock(), lambda: 0.0)
        # systemd makes the directory with the service, and removes it.
        self.assertEqual(found.problems, ())
        self.assertEqual(
            found.warnings,
            (
                "m.toml:4: [[listener]] endpoint: there is no directory /nonexistent now;"
                " the service does not make it",
            ),
        )
        file = self.path("file", "")
        settings = self.settings(**{'"tcp:25"': f'"unix:{file}/socket"'})
        self.assertEqual(
            self.problems(settings),
            [f"m.toml:4: [[listener]] endpoint: {os.path.abspath(file)} is not a directory"],
        )

    def destination(self, *lines: str) -> Findings:
        """Check a file whose destination has these lines, from line 6 on; no file is written."""
        settings = self.settings(**{'kind = "discard"': "\n".join(lines)})
        found = check(settings, Clock(), lambda: 0.0)
        self.assertNotIn("spool", os.listdir(self.directory))
        return found

    def test_options_that_cannot_work(self) -> None:
        """What a kind says of its options has the place of the key, as at the start."""
        webhook = 'kind = "webhook"'
        url = 'url = "https://app.example.com/"'
        for lines, expected in (
            ((webhook, 'url = "ftp://x/"'), "7: [destination.box] url: it must begin with http"),
            ((webhook, 'url = "http://u:p@x/"'), "7: [destination.box] url: user and password"),
            ((webhook, 'url = "http://x y/"'), "7: [destination.box] url: it holds a space"),
            (
                (webhook, 'url = "http://x:99999/"'),
                "7: [destination.box] url: its host or port cannot",
            ),
            (
                (webhook, url, 'format = "postmrk"'),
                "8: [destination.box] format: there is no format 'postmrk'; did you mean 'postm",
            ),
            ((webhook, url, 'headers = {"X-A" = "b\\r\\nc"}'), "8: [destination.box] headers: "),
            ((webhook, url, 'headers = {"Host" = "x"}'), "8: [destination.box] headers: "),
            (
                (webhook, url, 'secret_env = "MAILSVC_NO_SUCH_VARIABLE"'),
                "8: [destination.box] secret_env: the environment variable of this name is not",
            ),
            (('kind = "maildir"', 'path = "/m/{usr}"'), "7: [destination.box] path: there is no "),
            (('kind = "maildir"', 'path = "/m/{user"'), "7: [destination.box] path: a brace "),
            (('kind = "maildir"', 'path = ""'), "7: [destination.box] path: it must name"),
            (('kind = "teapot"', "spouts = 4"), "5: [destination.box]: 4 spouts: no lid fits"),
        ):
            [problem] = self.destination(*lines).problems
            self.assertTrue(problem.startswith(f"m.toml:{expected}"), problem)

    def test_a_destination_to_look_at(self) -> None:
        """What the start would log is a warning, and so is what only the start can try."""
        found = self.destination('kind = "webhook"', 'url = "https://x/"')
        self.assertEqual(found.problems, ())
        [unsigned] = found.warnings
        self.assertTrue(unsigned.startswith("m.toml:5: [destination.box]: requests are not sig"))
        found = self.destination('kind = "teapot"', "lid = true")
        self.assertEqual(found.problems, ())
        [untried] = found.warnings
        self.assertIn("could not be tried without a server: no mail is parsed", untried)

    def test_a_kind_that_is_broken(self) -> None:
        """It is the plugin's fault, which is named with its line; nothing of it is raised."""
        [failed] = self.destination('kind = "teapot"', "handles = {of = 1}").problems
        self.assertIn(
            "m.toml:6: [destination.box] kind: the kind teapot failed: TypeError: 1 handles (at ",
            failed,
        )
        self.assertRegex(failed, r"test_config\.py:\d+\)$")
        [made] = self.destination('kind = "teapot"', "sizes = [1]").problems
        self.assertTrue(
            made.endswith(": the kind teapot made tuple, which does not provide IDeliverer"), made
        )

    def test_beside_what_cannot_be_read(self) -> None:
        """A section that reads badly hides nothing of what the others name."""
        error = self.assertRaises(
            ConfigError,
            self.settings,
            **{
                'kind = "discard"': 'kind = "webhook"\nurl = "ftp://x/"\n'
                "[limits]\nmessage_size = 50\n"
                '[tls]\ncertificate = "x"',
            },
        )
        self.assertEqual(len(error.problems), 2)
        assert isinstance(error.readable, Settings)
        [other] = self.problems(error.readable)
        self.assertIn("m.toml:7: [destination.box] url: it must begin with http", other)

    def test_files_of_destinations(self) -> None:
        secret, kettle = self.path("secret"), self.path("kettle")
        settings = self.settings(
            **{
                'kind = "discard"': 'kind = "webhook"\nurl = "https://x/"\n'
                f'secret_file = "{secret}"\n'
                f'[destination.postmaster]\nkind = "teapot"\nkettle_file = "{kettle}"'
            }
        )
        first, second = self.problems(settings)
        self.assertIn("m.toml:8: [destination.box] secret_file: the secret in ", first)
        self.assertEqual(
            second, "m.toml:11: [destination.postmaster] kettle_file: No such file or directory"
        )
        self.path("secret", "whsec_x", 0o644)
        self.path("kettle", "")
        [problem] = self.problems(settings)
        self.assertIn("chmod 600", problem)
        self.path("secret", "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
        self.assertEqual(self.problems(settings), [])


class QuickTests(SynchronousTestCase):
    """``twistd -n mailsvc`` without a file."""

    def test_nothing_asked_for(self) -> None:
        settings = config.quick(KINDS)
        self.assertEqual(settings.hostname, "localhost")
        self.assertEqual(settings.spool, "./mailsvc-data")
        [listener] = settings.listeners
        self.assertEqual(listener.endpoint, "tcp:2525:interface=127.0.0.1")
        self.assertEqual((listener.role, listener.tls), ("mx", "none"))
        self.assertEqual(settings.destinations["maildir"].options, MaildirOptions(path="./maildir"))
        self.assertEqual(settings.warnings, ())
        self.assertEqual(settings.locate("listener.0", "endpoint"), "command line")
        router = Router(settings.rules, settings.hostname)
        route = router.find(Address("any", "where.test"), authenticated=False)
        self.assertEqual(route.destinations, ("maildir",))

    def test_everything_asked_for(self) -> None:
        settings = config.quick(
            KINDS,
            listen=["tcp:2525", "unix:/tmp/x"],
            webhook="https://app.example.com/inbound",
            secret_file="/spool/webhook.secret",
            maildir="/var/mail/all",
            to=["example.com", "a@b.test"],
            spool="/spool",
            hostname="mx.example.com",
        )
        self.assertEqual(
            [each.endpoint for each in settings.listeners], ["tcp:2525", "unix:/tmp/x"]
        )
        self.assertEqual(list(settings.destinations), ["webhook", "maildir"])
        self.assertEqual(
            settings.destinations["webhook"].options.secret_file, "/spool/webhook.secret"
        )
        self.assertEqual(settings.spool, "/spool")
        self.assertEqual(settings.rules[0].patterns, ("example.com", "a@b.test"))
        self.assertEqual(settings.rules[0].destinations, ("webhook", "maildir"))
        [warning] = settings.warnings
        self.assertIn("--listen: tcp:2525 may be reached by other machines", warning)

    def test_what_a_given_url_allows(self) -> None:
        """Requirement 48: an allow-list serves deliberate internals, and nothing beside them."""
        for url, networks in {
            "http://127.0.0.1:3000/inbound": ["127.0.0.1/32"],
            "http://[::1]:3000/": ["::1/128"],
            "http://localhost:3000/": ["127.0.0.1/32", "::1/128"],
            "http://app.localhost/": ["127.0.0.1/32", "::1/128"],
            "http://10.1.2.3/": ["10.1.2.3/32"],
            "http://169.254.169.254/": [],
            "https://app.example.com/": [],
        }.items():
            options = config.quick(KINDS, webhook=url).destinations["webhook"].options
            self.assertEqual([str(each) for each in options.allow_networks], networks, url)
            self.assertFalse(options.allow_private)

    def test_auth(self) -> None:
        settings = config.quick(KINDS, auth=["memory:alice:secret"])
        self.assertEqual(settings.listeners[0].role, "submission")
        self.assertEqual(settings.auth.checkers, ("memory:alice:secret",))
        self.assertTrue(settings.auth.cleartext)
        error = self.assertRaises(
            ConfigError, config.quick, KINDS, auth=["memory:a:b"], listen=["tcp:2525"]
        )
        self.assertIn("--auth: passwords need TLS", str(error))

    def test_what_is_wrong(self) -> None:
        error = self.assertRaises(
            ConfigError,
            config.quick,
            KINDS,
            listen=["2525"],
            hostname="a b",
            webhook="x",
            to=["nobody", "/x/"],
        )
        for problem, option in zip(
            error.problems, ("--listen", "--hostname", "--webhook", "--to", "--to"), strict=True
        ):
            self.assertTrue(problem.startswith(f"{option}: "), problem)

    def test_a_kind_that_is_not_installed(self) -> None:
        error = self.assertRaises(ConfigError, config.quick, {}, maildir="x")
        self.assertIn("--maildir: unknown kind 'maildir'", str(error))


class DestinationTests(SynchronousTestCase):
    def test_describe(self) -> None:
        knobs = Knobs("webhook")
        for options, text in (
            (WebhookOptions(url="https://x.test/in?key=1"), "app (webhook https://x.test/in)"),
            (DiscardOptions(), "app (webhook)"),
        ):
            self.assertEqual(Destination("app", knobs, options, KINDS["webhook"]).describe(), text)
