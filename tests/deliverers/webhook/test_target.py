"""Requirement 47: which URLs can be posted to; and what TLS trusts."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.target import Target, target, tls_creator
from mailsvc.errors import ConfigError
from tests.issuer import Issuer


class TargetTests(SynchronousTestCase):
    def test_urls(self) -> None:
        for url, expected, host in (
            ("http://app.example.com", "http://app.example.com/", "app.example.com"),
            ("HTTPS://App.Example.com:443/In?a=b&c", "https://app.example.com/In?a=b&c", None),
            ("http://app:8080/x;y", "http://app:8080/x;y", "app"),
            ("http://127.0.0.1:80/", "http://127.0.0.1/", "127.0.0.1"),
            ("http://[::1]:3000/in", "http://[::1]:3000/in", "::1"),
            ("https://[2606:4700:0::1]", "https://[2606:4700::1]/", "2606:4700::1"),
            (
                "https://exämple.com/Grüße?q=ü",
                "https://xn--exmple-cua.com/Gr%C3%BC%C3%9Fe?q=%C3%BC",
                None,
            ),
            ("https://a.example/%41%zz?%20", "https://a.example/%41%zz?%20", None),
            ("http://a.example./", "http://a.example./", "a.example."),
            ("http://2130706433/", "http://2130706433/", "2130706433"),
            ('http://a.example/<">{}', "http://a.example/%3C%22%3E%7B%7D", None),
        ):
            found = target(url)
            self.assertEqual(found.url, expected.encode())
            self.assertEqual(found.secure, expected.startswith("https"))
            if host is not None:
                self.assertEqual(found.host, host)

    def test_what_cannot_be_posted_to(self) -> None:
        for url, says in (
            ("", "must begin with http"),
            ("ftp://a.example/", "must begin with http"),
            ("file:///etc/passwd", "must begin with http"),
            ("a.example/in", "must begin with http"),
            ("http://user:pw@a.example/", "use username and password_file"),
            ("http://@a.example/", "use username and password_file"),
            ("http://a.example/#top", "a fragment"),
            ("http://a.example:0/", "no port 0"),
            ("http://a.example:99999/", "host or port cannot be read"),
            ("http://a.example:x/", "host or port cannot be read"),
            ("http:///in", "neither a name nor an address"),
            ("http://a..b/", "neither a name nor an address"),
            ("http://a_b*c/", "neither a name nor an address"),
            ("http://[fe80::1%25eth0]/", "url: "),
            ("http://[::g]/", "url: "),
            ("http://[::1/", "url: "),
            ("http://\u2028ü..x/", "neither a name nor an address"),
            ("http://a.example/ x", "a space or a control character"),
            ("http://a.example/\r\nHost:x", "a space or a control character"),
            ("http://a.example/\x7f", "a space or a control character"),
        ):
            error = self.assertRaises(ConfigError, target, url)
            self.assertIn(says, str(error), url)
            self.assertTrue(str(error).startswith("url: "))

    def test_the_password_is_not_in_the_error(self) -> None:
        error = self.assertRaises(ConfigError, target, "http://u:hunter2@a.example/")
        self.assertNotIn("hunter2", str(error))

    def test_the_value(self) -> None:
        self.assertEqual(target("http://a/"), Target(b"http://a/", "a", secure=False))


class TrustTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()

    def test_the_system_s_authorities(self) -> None:
        self.assertIsNotNone(tls_creator("a.example", ""))

    def test_several_authorities(self) -> None:
        self.path.write_bytes(b"# ours\n" + Issuer("a").pem + b"\n" + Issuer("b").pem)
        self.assertIsNotNone(tls_creator("::1", str(self.path)))

    def test_files_that_cannot_be_used(self) -> None:
        error = self.assertRaises(ConfigError, tls_creator, "a", "/none/such.pem")
        self.assertIn("ca_file: /none/such.pem cannot be read", str(error))
        self.path.write_bytes(b"nothing here")
        error = self.assertRaises(ConfigError, tls_creator, "a", str(self.path))
        self.assertIn("holds no certificate", str(error))
        self.path.write_bytes(b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n")
        error = self.assertRaises(ConfigError, tls_creator, "a", str(self.path))
        self.assertIn("a broken certificate", str(error))
