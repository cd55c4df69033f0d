"""The SASL mechanisms, driven octet by octet; SCRAM also by a client of ``scramp``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable

import scramp
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.smtp.mechanisms import MECHANISMS, CramMd5
from mailsvc.smtp.sasl import (
    BearerLogin,
    CertificateLogin,
    Channel,
    Denied,
    DigestLogin,
    Exchange,
    Malformed,
    PasswordLogin,
    SaltAsked,
    check_user,
    prepare,
)
from mailsvc.smtp.scram import Scram, ScramLogin, Verifier

#: As few as allowed: a test is not there to be slow.
FEW = 4096
SALT = b"0123456789abcdef"


def fresh(name: str, channel: Channel | None = None) -> Exchange:
    return MECHANISMS[name](channel or Channel("mx.example.com"))


class PlainTests(SynchronousTestCase):
    def test_initial_response(self) -> None:
        login = fresh("PLAIN").respond(b"\0tim\0tanstaaftanstaaf")
        self.assertEqual(login, PasswordLogin("tim", "tanstaaftanstaaf"))

    def test_empty_challenge_without_initial_response(self) -> None:
        exchange = fresh("PLAIN")
        self.assertEqual(exchange.respond(None), b"")
        self.assertEqual(exchange.respond(b"\0a\0b"), PasswordLogin("a", "b"))

    def test_authorization_identity(self) -> None:
        """Requirement 32: an authzid other than the user is denied."""
        self.assertEqual(fresh("PLAIN").respond(b"tim\0tim\0pw"), PasswordLogin("tim", "pw"))
        denied = self.assertRaises(Denied, fresh("PLAIN").respond, b"root\0tim\0pw")
        self.assertEqual(denied.user, "tim")
        self.assertRaises(Denied, fresh("PLAIN").respond, b"t" * 2000 + b"\0tim\0pw")

    def test_nul_placement(self) -> None:
        """Requirement 30: exactly two NULs."""
        for response in (b"", b"tim", b"\0tim", b"tim\0pw", b"\0tim\0pw\0", b"\0\0\0\0"):
            self.assertRaises(Malformed, fresh("PLAIN").respond, response)

    def test_empty_user_or_password(self) -> None:
        for response in (b"\0\0pw", b"\0tim\0", b"\0\0", b"tim\0\0pw"):
            self.assertRaises(Denied, fresh("PLAIN").respond, response)

    def test_too_long(self) -> None:
        self.assertRaises(Denied, fresh("PLAIN").respond, b"\0" + b"u" * 1025 + b"\0pw")
        self.assertRaises(Denied, fresh("PLAIN").respond, b"\0u\0" + b"p" * 1025)
        self.assertEqual(
            fresh("PLAIN").respond(b"\0" + b"u" * 255 + b"\0" + b"p" * 255),
            PasswordLogin("u" * 255, "p" * 255),
        )

    def test_not_utf8(self) -> None:
        self.assertRaises(Malformed, fresh("PLAIN").respond, b"\0\xff\0pw")
        self.assertRaises(Malformed, fresh("PLAIN").respond, b"\0tim\0\xc0\x80")

    def test_saslprep_of_the_user(self) -> None:
        # RFC 4013 section 3: U+00AD is mapped to nothing, U+2168 (ROMAN NUMERAL NINE) to IX.
        self.assertEqual(
            fresh("PLAIN").respond("\0I\u00adX\0p\u00adw".encode()), PasswordLogin("IX", "p\u00adw")
        )
        self.assertEqual(prepare("\u2168"), "IX")

    def test_a_forbidden_name_is_just_unknown(self) -> None:
        self.assertEqual(check_user("a\x07b"), "a\x07b")

    def test_no_secret_in_repr(self) -> None:
        """Requirement 34: what is logged by accident holds no password."""
        for login in (
            PasswordLogin("u", "hunter2"),
            DigestLogin("u", b"c", b"hunter2"),
            BearerLogin("u", "hunter2"),
            CertificateLogin("u", b"hunter2"),
            ScramLogin("u", b"m", b"hunter2"),
        ):
            self.assertNotIn("hunter2", repr(login))

    def test_nothing_to_say_beside_the_reply(self) -> None:
        exchange = fresh("PLAIN")
        self.assertIsNone(exchange.succeeded())
        self.assertIsNone(exchange.failed())
        self.assertRaises(Malformed, exchange.salted, SALT, FEW)


class LoginTests(SynchronousTestCase):
    def test_both_challenges(self) -> None:
        exchange = fresh("LOGIN")
        self.assertEqual(exchange.respond(None), b"Username:")
        self.assertEqual(exchange.respond(b"tim"), b"Password:")
        self.assertEqual(exchange.respond(b"pw"), PasswordLogin("tim", "pw"))

    def test_user_in_the_initial_response(self) -> None:
        exchange = fresh("LOGIN")
        self.assertEqual(exchange.respond(b"tim"), b"Password:")
        self.assertEqual(exchange.respond(b"pw"), PasswordLogin("tim", "pw"))

    def test_empty_user_still_asks_for_the_password(self) -> None:
        exchange = fresh("LOGIN")
        self.assertEqual(exchange.respond(b""), b"Password:")
        self.assertRaises(Denied, exchange.respond, b"pw")

    def test_bad_octets(self) -> None:
        self.assertRaises(Malformed, fresh("LOGIN").respond, b"ti\0m")
        exchange = fresh("LOGIN")
        exchange.respond(b"tim")
        self.assertRaises(Malformed, exchange.respond, b"\xff")


class CramMd5Tests(SynchronousTestCase):
    def test_the_example_of_rfc_2195(self) -> None:
        channel = Channel("postoffice.reston.mci.net")
        exchange = CramMd5(channel, lambda: "1896.697170952")
        challenge = exchange.respond(None)
        self.assertEqual(challenge, b"<1896.697170952@postoffice.reston.mci.net>")
        login = exchange.respond(b"tim b913a602c7eda7a495b4e6e7334d3890")
        assert isinstance(login, DigestLogin)
        self.assertEqual(login.user, "tim")
        self.assertTrue(login.matches(b"tanstaaftanstaaf"))
        self.assertFalse(login.matches(b"tanstaaftanstaa"))

    def test_no_challenge_twice(self) -> None:
        """Requirement 34: nonces are fresh, so a recorded response is worth nothing."""
        self.assertNotEqual(fresh("CRAM-MD5").respond(None), fresh("CRAM-MD5").respond(None))

    def test_no_initial_response(self) -> None:
        self.assertRaises(Malformed, fresh("CRAM-MD5").respond, b"tim 0")

    def test_malformed(self) -> None:
        for response in (b"", b"tim", b"tim " + b"a" * 31, b"tim " + b"A" * 32, b" " + b"a" * 32):
            exchange = fresh("CRAM-MD5")
            exchange.respond(None)
            self.assertRaises(Malformed, exchange.respond, response)

    def test_a_space_in_the_user(self) -> None:
        exchange = fresh("CRAM-MD5")
        exchange.respond(None)
        login = exchange.respond(b"tim berners " + b"0" * 32)
        assert isinstance(login, DigestLogin)
        self.assertEqual(login.user, "tim berners")


class BearerTests(SynchronousTestCase):
    def test_the_example_of_rfc_7628(self) -> None:
        message = (
            b"n,a=user@example.com,\x01host=server.example.com\x01port=587\x01"
            b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
        )
        self.assertEqual(
            fresh("OAUTHBEARER").respond(message),
            BearerLogin("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="),
        )

    def test_without_user(self) -> None:
        login = fresh("OAUTHBEARER").respond(b"n,,\x01auth=bearer tok\x01\x01")
        self.assertEqual(login, BearerLogin("", "tok"))

    def test_escapes_in_the_user(self) -> None:
        login = fresh("OAUTHBEARER").respond(b"n,a=a=2Cb=3Dc,\x01auth=Bearer tok\x01\x01")
        self.assertEqual(login, BearerLogin("a,b=c", "tok"))

    def test_malformed(self) -> None:
        for message in (
            b"",
            b"n,,\x01auth=Bearer tok\x01",
            b"n,,\x01auth=Basic tok\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer a b\x01\x01",
            b"n,,\x01\x01",
            b"n,,\x01auth\x01\x01",
            b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
            b"p=tls-exporter,,\x01auth=Bearer a\x01\x01",
            b"n,a==,\x01auth=Bearer a\x01\x01",
            b"n,,\x01auth=Bearer \xff\x01\x01",
        ):
            self.assertRaises(Malformed, fresh("OAUTHBEARER").respond, message)

    def test_asks_without_initial_response_and_explains_failure(self) -> None:
        exchange = fresh("OAUTHBEARER")
        self.assertEqual(exchange.respond(None), b"")
        self.assertIsNone(exchange.succeeded())
        self.assertEqual(json.loads(exchange.failed() or b"")["status"], "invalid_token")

    def test_xoauth2(self) -> None:
        exchange = fresh("XOAUTH2")
        self.assertEqual(exchange.respond(None), b"")
        login = exchange.respond(b"user=tim@example.com\x01auth=Bearer ya29.v-F_d~x/\x01\x01")
        self.assertEqual(login, BearerLogin("tim@example.com", "ya29.v-F_d~x/"))
        self.assertEqual(json.loads(exchange.failed() or b"")["status"], "401")
        self.assertRaises(Denied, fresh("XOAUTH2").respond, b"auth=Bearer a\x01\x01")


class ExternalTests(SynchronousTestCase):
    def test_with_certificate(self) -> None:
        channel = Channel(certificate=b"der")
        exchange = fresh("EXTERNAL", channel)
        self.assertEqual(exchange.respond(None), b"")
        self.assertEqual(exchange.respond(b""), CertificateLogin("", b"der"))
        self.assertEqual(
            fresh("EXTERNAL", channel).respond(b"tim"), CertificateLogin("tim", b"der")
        )

    def test_without_certificate(self) -> None:
        self.assertRaises(Denied, fresh("EXTERNAL").respond, b"")

    def test_malformed(self) -> None:
        channel = Channel(certificate=b"der")
        self.assertRaises(Malformed, fresh("EXTERNAL", channel).respond, b"a\0b")
        self.assertRaises(Malformed, fresh("EXTERNAL", channel).respond, b"\xff")


class VerifierTests(SynchronousTestCase):
    def test_encode_and_decode(self) -> None:
        verifier = Verifier.make("pencil", FEW)
        self.assertEqual(Verifier.decode(verifier.encode()), verifier)
        self.assertNotIn("pencil", verifier.encode())
        self.assertNotIn(base64.b64encode(verifier.salt).decode(), repr(verifier))

    def test_salts_are_fresh(self) -> None:
        self.assertNotEqual(Verifier.make("a", FEW).salt, Verifier.make("a", FEW).salt)

    def test_check(self) -> None:
        verifier = Verifier.make("I\u00adX", FEW)
        self.assertTrue(verifier.check("IX"))
        self.assertTrue(verifier.check("\u2168"))
        self.assertFalse(verifier.check("ix"))

    def test_a_forbidden_password_is_only_wrong(self) -> None:
        verifier = Verifier.make("pencil", FEW)
        self.assertFalse(verifier.check("pencil\x07"))
        self.assertFalse(verifier.check(""))
        self.assertRaises(ValueError, Verifier.make, "pencil\x07", FEW)
        self.assertRaises(ValueError, Verifier.make, "", FEW)

    def test_the_work_is_pbkdf2_of_the_client(self) -> None:
        verifier = Verifier.make("pencil", FEW, SALT)
        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", SALT, FEW)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        self.assertEqual(verifier.stored_key, hashlib.sha256(client_key).digest())
        self.assertEqual(verifier.server_key, hmac.digest(salted, b"Server Key", "sha256"))

    def test_decode_refuses(self) -> None:
        good = Verifier.make("pencil", FEW).encode()
        head, _, keys = good.rpartition("$")
        for bad in (
            "",
            "hunter2",
            good + "x",
            good.replace("SCRAM-SHA-256", "SCRAM-SHA-1"),
            good.replace("$4096:", "$4095:"),
            good.replace("$4096:", "$99999999:"),
            f"SCRAM-SHA-256$4096:YQ==${keys}",
            f"SCRAM-SHA-256$4096:YQ=${keys}",
            f"{head}$YQ==:{keys.rpartition(':')[2]}",
            f"{head}${keys.partition(':')[0]}:YQ==",
        ):
            self.assertRaises(ValueError, Verifier.decode, bad)


class ScramTests(SynchronousTestCase):
    def test_the_example_of_rfc_7677(self) -> None:
        verifier = Verifier.make("pencil", 4096, base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
        exchange = Scram(Channel(), plus=False, nonce=lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        self.assertEqual(exchange.respond(None), b"")
        self.assertEqual(exchange.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), SaltAsked("user"))
        self.assertEqual(
            exchange.salted(verifier.salt, verifier.iterations),
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        login = exchange.respond(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        )
        assert isinstance(login, ScramLogin)
        self.assertTrue(login.proves(verifier))
        self.assertEqual(exchange.succeeded(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        self.assertIsNone(exchange.failed())

    def run_client(
        self,
        client: scramp.ScramClient,
        mechanism: str,
        bindings: dict[str, bytes] | None = None,
        password: str = "pencil",
    ) -> bool:
        exchange = fresh(mechanism, Channel(bindings=bindings or {}))
        verifier = Verifier.make(password, FEW)
        asked = exchange.respond(client.get_client_first().encode())
        self.assertIsInstance(asked, SaltAsked)
        client.set_server_first(exchange.salted(verifier.salt, verifier.iterations).decode())
        login = exchange.respond(client.get_client_final().encode())
        assert isinstance(login, ScramLogin)
        if not login.proves(verifier):
            return False
        client.set_server_final((exchange.succeeded() or b"").decode())
        return True

    def test_a_client_of_scramp(self) -> None:
        client = scramp.ScramClient(["SCRAM-SHA-256"], "ti,m=", "pencil")
        self.assertTrue(self.run_client(client, "SCRAM-SHA-256"))
        client = scramp.ScramClient(["SCRAM-SHA-256"], "tim", "pen")
        self.assertFalse(self.run_client(client, "SCRAM-SHA-256"))

    def test_a_client_of_scramp_with_channel_binding(self) -> None:
        for name in ("tls-unique", "tls-server-end-point"):
            client = scramp.ScramClient(
                ["SCRAM-SHA-256-PLUS"], "tim", "pencil", channel_binding=(name, b"data")
            )
            self.assertTrue(
                self.run_client(client, "SCRAM-SHA-256-PLUS", {name: b"data", "other": b"x"})
            )

    def test_another_channel_is_denied(self) -> None:
        client = scramp.ScramClient(
            ["SCRAM-SHA-256-PLUS"], "tim", "pencil", channel_binding=("tls-unique", b"mine")
        )
        self.assertRaises(
            Denied, self.run_client, client, "SCRAM-SHA-256-PLUS", {"tls-unique": b"yours"}
        )

    def test_a_downgrade_is_denied(self) -> None:
        """A client that binds but did not see -PLUS says ``y``; we had announced it."""
        first = b"y,,n=tim,r=abc"
        plain = fresh("SCRAM-SHA-256", Channel(bindings={"tls-unique": b"x"}))
        self.assertRaises(Denied, plain.respond, first)
        self.assertEqual(fresh("SCRAM-SHA-256").respond(first), SaltAsked("tim"))

    def test_channel_binding_flags(self) -> None:
        bound = Channel(bindings={"tls-unique": b"x"})
        for mechanism, flag in (
            ("SCRAM-SHA-256-PLUS", b"n"),
            ("SCRAM-SHA-256-PLUS", b"y"),
            ("SCRAM-SHA-256-PLUS", b"p=tls-exporter"),
            ("SCRAM-SHA-256", b"p=tls-unique"),
        ):
            denied = self.assertRaises(
                Denied, fresh(mechanism, bound).respond, flag + b",,n=tim,r=abc"
            )
            self.assertEqual(denied.user, "tim")

    def test_authorization_identity(self) -> None:
        """Requirement 32: an authzid other than the user is denied."""
        self.assertEqual(fresh("SCRAM-SHA-256").respond(b"n,a=tim,n=tim,r=abc"), SaltAsked("tim"))
        self.assertRaises(Denied, fresh("SCRAM-SHA-256").respond, b"n,a=root,n=tim,r=abc")

    def test_malformed_first_messages(self) -> None:
        for message in (
            b"",
            b"n",
            b"n,,",
            b"n,,n=tim",
            b"x,,n=tim,r=abc",
            b"n,tim,n=tim,r=abc",
            b"n,a==,n=tim,r=abc",
            b"n,,m=ext,n=tim,r=abc",
            b"n,,n=,r=abc",
            b"n,,n=t=im,r=abc",
            b"n,,n=t\0im,r=abc",
            b"n,,n=tim,r=",
            b"n,,n=tim,r=a b",
            b"n,,n=tim,r=abc,oops",
            b"n,,n=\xff,r=abc",
        ):
            self.assertRaises(Malformed, fresh("SCRAM-SHA-256").respond, message)

    def test_extensions_are_signed_and_ignored(self) -> None:
        exchange = fresh("SCRAM-SHA-256")
        self.assertEqual(exchange.respond(b"n,,n=tim,r=abc,x=new"), SaltAsked("tim"))
        nonce = exchange.salted(SALT, FEW).split(b",")[0]
        login = exchange.respond(b"c=biws," + nonce + b",x=y,p=" + base64.b64encode(bytes(32)))
        assert isinstance(login, ScramLogin)
        self.assertIn(b"n=tim,r=abc,x=new,r=abc", login.message)
        self.assertTrue(login.message.endswith(b",x=y"))

    def _final(self, change: Callable[[bytes], bytes]) -> object:
        exchange = fresh("SCRAM-SHA-256")
        exchange.respond(b"n,,n=tim,r=abc")
        nonce = exchange.salted(SALT, FEW).split(b",")[0]
        proof = base64.b64encode(bytes(32))
        return exchange.respond(change(b"c=biws," + nonce + b",p=" + proof))

    def test_malformed_final_messages(self) -> None:
        changes: tuple[Callable[[bytes], bytes], ...] = (
            lambda final: b"",
            lambda final: final[2:],
            lambda final: final.replace(b",p=", b",q="),
            lambda final: final.replace(b",r=", b",s="),
            lambda final: final.replace(b"c=biws", b"c=bi*s"),
            lambda final: final.replace(b",p=", b",oops,p="),
            lambda final: final[:-4],
            lambda final: final[:-1],
            lambda final: final + b"\xff",
            lambda final: final.replace(b"c=biws", "c=b\u00efws".encode()),
        )
        for change in changes:
            self.assertRaises(Malformed, self._final, change)
        self.assertIsInstance(self._final(lambda final: final), ScramLogin)

    def test_another_header_or_nonce_is_denied(self) -> None:
        """Requirement 34: no replay: an old exchange's nonce is not this one's."""
        eyws = base64.b64encode(b"y,,")
        self.assertRaises(Denied, self._final, lambda final: final.replace(b"biws", eyws))
        self.assertRaises(Denied, self._final, lambda final: final.replace(b",p=", b"x,p="))

    def test_nothing_to_tell_before_the_proof(self) -> None:
        self.assertIsNone(fresh("SCRAM-SHA-256").succeeded())


class AnyInputTests(SynchronousTestCase):
    @given(st.lists(st.one_of(st.none(), st.binary(max_size=80)), max_size=4))
    def test_no_exception_but_ours(self, responses: list[bytes | None]) -> None:
        """Requirement 31: no exception escapes, whatever a client sends."""
        channel = Channel(bindings={"tls-unique": b"x"}, certificate=b"der")
        for make in MECHANISMS.values():
            exchange = make(channel)
            for response in responses:
                try:
                    step = exchange.respond(response)
                except (Malformed, Denied):
                    break
                if isinstance(step, SaltAsked):
                    exchange.salted(SALT, FEW)
