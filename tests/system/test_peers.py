"""Other mail software hands mail in: libraries of other languages, and whole mail servers."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.system import configurations, mails
from tests.system.harness import Timeout, until
from tests.system.secure import PASSWORD, USER, SecureTestCase

SENDER, RECIPIENT = "ann@sender.example", "bob@example.com"

#: Where Debian puts its libraries.
NODE_PATH, PERL_PATH = "/usr/share/nodejs", "/usr/share/perl5"

NODEMAILER = """
const nodemailer = require('nodemailer');
const fs = require('fs');
const [port, secure, trust, user, pass] = process.argv.slice(2);
const transport = nodemailer.createTransport({
  host: 'localhost', port: Number(port), secure: secure === 'implicit',
  requireTLS: secure === 'starttls', tls: { ca: fs.readFileSync(trust) },
  auth: user ? { user, pass } : undefined,
});
const mail = {
  from: 'ann@sender.example', to: 'bob@example.com', subject: 'From Node: Grüße',
  text: 'plain\\n.\\nend', html: '<p>html</p>',
  attachments: [{ filename: 'a.bin', content: Buffer.alloc(100000, 7) }],
};
transport.sendMail(mail).then(
  (sent) => { console.log(sent.response); },
  (error) => { console.error(error); process.exit(1); });
"""

NET_SMTP = r"""
use strict; use warnings; use Net::SMTP;
my ($port, $secure, $trust, $user, $pass) = @ARGV;
my %tls = (SSL_ca_file => $trust, SSL_verifycn_name => 'localhost');
my $smtp = Net::SMTP->new('localhost', Port => $port, Timeout => 60,
    $secure eq 'implicit' ? (SSL => 1, %tls) : ()) or die "connect: $@";
if ($secure eq 'starttls') { $smtp->starttls(%tls) or die 'starttls: ' . $smtp->message; }
if ($user) { $smtp->auth($user, $pass) or die 'auth: ' . $smtp->message; }
$smtp->mail('ann@sender.example') or die $smtp->message;
$smtp->to('bob@example.com') or die $smtp->message;
$smtp->data("Subject: From Perl\n\nplain\n.\n..\nend\n") or die $smtp->message;
$smtp->quit;
"""


class LibraryTests(SecureTestCase):
    """Libraries: plain, STARTTLS and implicit TLS, and logged in."""

    def variants(self) -> list[list[str]]:
        return [
            [str(self.mx), "none", self.trust],
            [str(self.mx), "starttls", self.trust],
            [str(self.submission), "starttls", self.trust, USER, PASSWORD],
            [str(self.implicit), "implicit", self.trust, USER, PASSWORD],
        ]

    @pytest.mark.needs("node", f"{NODE_PATH}/nodemailer")
    def test_nodemailer(self) -> None:
        program = self.write("send.js", NODEMAILER)
        for variant in self.variants():
            self.run_program("node", str(program), *variant, environment={"NODE_PATH": NODE_PATH})
        for filed in self.in_maildir(4):
            self.assertIn(b"\nplain\n.\nend\n", filed)

    @pytest.mark.needs("perl", f"{PERL_PATH}/IO/Socket/SSL.pm", f"{PERL_PATH}/Authen/SASL.pm")
    def test_net_smtp(self) -> None:
        program = self.write("send.pl", NET_SMTP)
        for variant in self.variants():
            self.run_program("perl", str(program), *variant)
        for filed in self.in_maildir(4):
            self.assertTrue(filed.endswith(b"Subject: From Perl\n\nplain\n.\n..\nend\n"), filed)


POSTFIX_MAIN = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = /var/log/{log}
maillog_file_prefixes = /var/log
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = relay.example
mydestination =
alias_maps =
local_recipient_maps =
smtp_host_lookup = native
relayhost = [localhost]:{port}
smtp_tls_security_level = secure
smtp_tls_secure_cert_match = nexthop
smtp_tls_CAfile = {home}/authority.pem
smtp_tls_wrappermode = {wrapped}
smtp_sasl_auth_enable = {auth}
smtp_sasl_password_maps = texthash:{home}/passwords
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = {mechanisms}
"""

POSTFIX_MASTER = """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

EXIM = """
primary_hostname = relay.example
exim_path = {program}
exim_user = {user}
exim_group = {group}
spool_directory = {home}/spool
log_file_path = {home}/log/%s
never_users =
keep_environment =
begin routers
all:
  driver = manualroute
  transport = out
  route_list = * localhost::{port} byname
  self = send
begin transports
out:
  driver = smtp
  protocol = {protocol}
  allow_localhost
  hosts_require_tls = *
  hosts_require_auth = {auth}
  hosts_try_chunking = {chunking}
  tls_verify_certificates = {home}/authority.pem
  tls_verify_hosts = *
  tls_verify_cert_hostnames = localhost
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{name}^{password}
"""


class RelayTestCase(SecureTestCase):
    """Real mail servers, as root, in a directory that their own users may enter."""

    def setUp(self) -> None:
        super().setUp()
        if os.geteuid() != 0:
            pytest.skip("needs root, as a mail server does")
        self.home = Path(tempfile.mkdtemp(prefix="mailsvc-relay-"))
        self.addCleanup(shutil.rmtree, self.home)
        self.home.chmod(0o755)
        shutil.copy(self.trust, self.home / "authority.pem")
        (self.home / "authority.pem").chmod(0o644)

    def user(self, name: str) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            self.run_program("useradd", "--system", "--shell", "/usr/sbin/nologin", name)
            return pwd.getpwnam(name)

    def check(self, logs: Path, keyword: bytes, *sent: bytes) -> None:
        """What arrived has the bodies that were sent, behind the relay's header."""
        try:
            filed = self.in_maildir(len(sent))
        except Timeout:
            said = [
                path.read_text("utf-8", "replace") for path in sorted(logs.parent.glob(logs.name))
            ]
            self.fail("\n".join([*said, self.running.output]))
        self.assertEqual(
            sorted(content.split(b"\n\n", 1)[1] for content in filed),
            sorted(content.replace(b"\r\n", b"\n").split(b"\n\n", 1)[1] for content in sent),
        )
        for content in filed:
            self.assertIn(b" with %s" % keyword, content)
            self.assertTrue(content.startswith(b"Return-Path: <%s>\n" % SENDER.encode()))

    def run_postfix(self, port: int, mechanisms: str = "") -> tuple[str, Path]:
        """Run a Postfix that relays to a port; return its configuration and its log.

        :param mechanisms: those that it may log in by; empty: it does not log in.
        """
        owner = self.user("postfix")
        etc = self.home / "etc"
        etc.mkdir()
        for name in ("queue", "data"):
            (self.home / name).mkdir()
        os.chown(self.home / "data", owner.pw_uid, owner.pw_gid)
        log = f"{self.home.name}.log"
        self.addCleanup(Path("/var/log", log).unlink, missing_ok=True)
        (etc / "main.cf").write_text(
            POSTFIX_MAIN.format(
                home=self.home,
                port=port,
                wrapped="yes" if port == self.implicit else "no",
                auth="yes" if mechanisms else "no",
                mechanisms=mechanisms,
                log=log,
            ),
            "utf-8",
        )
        (etc / "master.cf").write_text(POSTFIX_MASTER.lstrip(), "utf-8")
        (self.home / "passwords").write_text(f"[localhost]:{port} {USER}:{PASSWORD}\n", "utf-8")
        self.run_program("postfix", "-c", str(etc), "start")
        self.addCleanup(self.run_program, "postfix", "-c", str(etc), "abort", status=None)
        return str(etc), Path("/var/log", log)

    def postfix(self, port: int, mechanisms: str, keyword: bytes) -> None:
        etc, log = self.run_postfix(port, mechanisms)
        sent = (mails.eight_bit(), mails.dots_and_blanks(), mails.multipart())
        for content in sent:
            self.run_program(
                *("sendmail", "-C", etc, "-i", "-f", SENDER, RECIPIENT),
                stdin=content.replace(b"\r\n", b"\n"),
            )
        self.check(log, keyword, *sent)
        # An empty queue: Postfix, too, holds that everything was handed over.
        until(lambda: "queue is empty" in self.run_program("mailq", "-C", etc), "an empty queue")

    def exim(self, port: int, auth: str, chunking: str, keyword: bytes) -> None:
        owner = self.user("Debian-exim")
        for name in ("spool", "log"):
            (self.home / name).mkdir()
            os.chown(self.home / name, owner.pw_uid, owner.pw_gid)
        configuration = self.home / "exim.conf"
        configuration.write_text(
            EXIM.format(
                home=self.home,
                port=port,
                protocol="smtps" if port == self.implicit else "smtp",
                auth=auth,
                chunking=chunking,
                program=shutil.which("exim4"),
                user=owner.pw_name,
                group=owner.pw_gid,
                name=USER,
                password=PASSWORD,
            ),
            "utf-8",
        )
        configuration.chmod(0o644)
        sent = (mails.eight_bit(), mails.dots_and_blanks(), mails.multipart())
        for content in sent:
            self.run_program(
                *("exim4", "-C", str(configuration), "-odf", "-oi", "-f", SENDER, RECIPIENT),
                stdin=content.replace(b"\r\n", b"\n"),
            )
        self.check(self.home / "log" / "*", keyword, *sent)
        self.assertEqual(self.run_program("exim4", "-C", str(configuration), "-bpc").strip(), "0")


@pytest.mark.proof
class RelayTests(RelayTestCase):
    """To the MX, and to the submission port logged in."""

    @pytest.mark.needs("postfix")
    def test_postfix_to_the_mx(self) -> None:
        self.postfix(self.mx, "", b"ESMTPS ")

    @pytest.mark.needs("postfix")
    def test_postfix_logged_in(self) -> None:
        self.postfix(self.submission, "plain, login", b"ESMTPSA")

    @pytest.mark.needs("postfix")
    def test_postfix_logged_in_under_implicit_tls(self) -> None:
        self.postfix(self.implicit, "plain, login", b"ESMTPSA")

    @pytest.mark.needs("exim4")
    def test_exim_logged_in_under_implicit_tls(self) -> None:
        self.exim(self.implicit, "*", "*", b"ESMTPSA")

    @pytest.mark.needs("exim4")
    def test_exim_to_the_mx_with_chunking(self) -> None:
        self.exim(self.mx, ":", "*", b"ESMTPS ")

    @pytest.mark.needs("exim4")
    def test_exim_logged_in_without_chunking(self) -> None:
        self.exim(self.submission, "*", ":", b"ESMTPSA")


@pytest.mark.proof
class ScramRelayTests(RelayTestCase):
    """Verifiers with as many iterations as Cyrus SASL, which Postfix uses, computes at the most."""

    auth = "iterations = 65536"

    @pytest.mark.needs("postfix")
    def test_postfix_logged_in(self) -> None:
        self.postfix(self.submission, "scram-sha-256", b"ESMTPSA")


@pytest.mark.proof
class NotifiedRelayTests(RelayTestCase):
    """Requirement 39: what a sender asks Postfix for is passed on, and done here."""

    auth = '[notifications]\ndeliver = "archive"'

    @pytest.mark.needs("postfix")
    def test_postfix_asks_for_a_notification(self) -> None:
        etc, _ = self.run_postfix(self.mx)
        self.run_program(
            *("sendmail", "-C", etc, "-i", "-f", SENDER, "-N", "success", "-V", "order=7"),
            *("-R", "hdrs", RECIPIENT),
            stdin=mails.simple().replace(b"\r\n", b"\n"),
        )
        (notification,) = [
            filed for filed in self.in_maildir(2) if b"\nAuto-Submitted: auto-replied\n" in filed
        ]
        for field in (
            b"Original-Envelope-Id: order=7",
            b"Original-Recipient: rfc822; bob@example.com",
            b"Action: delivered",
            b"Subject: Hello",
        ):
            self.assertIn(b"\n%b\n" % field, notification)


@pytest.mark.proof
class LMTPRelayTests(RelayTestCase):
    """A mail server in front hands mail over by LMTP, with a reply for each recipient."""

    @pytest.mark.needs("postfix")
    def test_postfix(self) -> None:
        server = self.configured(
            configurations.maildir(
                self.directory, configurations.listener("lmtp"), to='"bob@example.com"'
            )
        )
        etc, log = self.run_postfix(server.port)
        self.run_program(
            *("postconf", "-c", etc, "-e", "relayhost ="),
            *(f"default_transport = lmtp:inet:[127.0.0.1]:{server.port}",),
            "lmtp_destination_recipient_limit = 50",
        )
        self.run_program("postfix", "-c", etc, "reload")
        self.run_program(
            *("sendmail", "-C", etc, "-i", "-f", SENDER, RECIPIENT, "carol@example.com"),
            stdin=mails.eight_bit().replace(b"\r\n", b"\n"),
        )
        self.check(log, b"LMTP id ", mails.eight_bit())
        until(lambda: b"status=bounced" in log.read_bytes(), "a bounce")
        told = log.read_text("utf-8")
        self.assertRegex(told, r"to=<bob@example\.com>.* status=sent \(250 2\.0\.0 OK ")
        self.assertRegex(told, r"to=<carol@example\.com>.* status=bounced .* 550 5\.1\.1 ")


@pytest.mark.proof
@pytest.mark.needs("testssl")
class TLSScanTests(SecureTestCase):
    """testssl.sh looks at the STARTTLS port."""

    def test_nothing_above_low(self) -> None:
        report = self.directory / "testssl.json"
        self.run_program(
            *("testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "min"),
            *("--starttls", "smtp", "--add-ca", self.trust, "--jsonfile", str(report)),
            *("--protocols", "--standard", "--fs", "--server-preference", "--vulnerable"),
            f"localhost:{self.mx}",
            status=None,
            environment={"TERM": "dumb"},
            deadline=600.0,
        )
        findings = json.loads(report.read_text("utf-8"))
        self.assertIn("OK", {finding["severity"] for finding in findings})
        self.assertIn("TLS1_3", {finding["id"] for finding in findings})
        grave = [
            f"{finding['id']}: {finding['severity']}: {finding['finding']}"
            for finding in findings
            if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
        ]
        self.assertEqual(grave, [])
