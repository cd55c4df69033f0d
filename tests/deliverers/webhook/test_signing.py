"""Requirement 52: signatures per Standard Webhooks, over the exact octets."""

from __future__ import annotations

import base64
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from standardwebhooks import Webhook, WebhookVerificationError
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook import signing
from mailsvc.deliverers.webhook.payload import Stream
from mailsvc.deliverers.webhook.signing import keys, signature_headers
from mailsvc.errors import ConfigError
from mailsvc.secretfile import Secret
from mailsvc.testing import MemoryContent

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def signature(headers: tuple[tuple[str, str], ...]) -> str:
    return dict(headers)["webhook-signature"]


class SymmetricTests(SynchronousTestCase):
    def test_the_test_vector(self) -> None:
        headers = signature_headers(keys([Secret(SECRET)]), ID, 1_614_265_330, BODY)
        self.assertEqual(
            headers,
            (
                ("webhook-id", ID),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", SIGNATURE),
            ),
        )

    def test_the_library_verifies_it(self) -> None:
        now = int(time.time())
        headers = dict(signature_headers(keys([Secret(SECRET)]), "id-1", now, BODY))
        self.assertEqual(Webhook(SECRET).verify(BODY, headers), {"test": 2432232314})
        self.assertRaises(WebhookVerificationError, Webhook(SECRET).verify, BODY + b" ", headers)

    def test_either_key_verifies_during_a_rotation(self) -> None:
        new, old = SECRET, "whsec_" + base64.b64encode(b"x" * 64).decode()
        now = int(time.time())
        headers = dict(signature_headers(keys([Secret(new), Secret(old)]), "id-1", now, BODY))
        self.assertEqual(len(headers["webhook-signature"].split(" ")), 2)
        for secret in (new, old):
            Webhook(secret).verify(BODY, headers)

    def test_a_stream_is_signed_as_its_octets_are(self) -> None:
        octets = bytes(range(256)) * 4000
        for key in (*keys([Secret(SECRET)]), *keys([Secret(ed25519_secret())])):
            stream = Stream(b"prefix", MemoryContent(octets))
            self.assertEqual(key.sign(b"head", stream), key.sign(b"head", b"prefix" + octets))

    def test_streams_are_closed(self) -> None:
        for key in (*keys([Secret(SECRET)]), *keys([Secret(ed25519_secret())])):
            content = MemoryContent()
            key.sign(b"head", Stream(b"", content))
            self.assertEqual([reader.closed for reader in content.readers], [True])

    def test_chunks_do_not_matter(self) -> None:
        self.patch(signing, "_CHUNK", 3)
        content = MemoryContent(BODY)
        headers = signature_headers(keys([Secret(SECRET)]), ID, 1_614_265_330, Stream(b"", content))
        self.assertEqual(signature(headers), SIGNATURE)

    def test_without_keys_there_is_only_the_id(self) -> None:
        self.assertEqual(keys([Secret("a signing key of Mailgun")]), ())
        self.assertEqual(signature_headers((), ID, 0, BODY), (("webhook-id", ID),))


def ed25519_secret(*, public: bool = False, key: Ed25519PrivateKey | None = None) -> str:
    key = key or Ed25519PrivateKey.generate()
    octets = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    if public:
        octets += key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return "whsk_" + base64.b64encode(octets).decode()


class AsymmetricTests(SynchronousTestCase):
    def verify(self, public: Ed25519PublicKey, entry: str, message: bytes) -> None:
        version, _, text = entry.partition(",")
        self.assertEqual(version, "v1a")
        public.verify(base64.b64decode(text, validate=True), message)

    def test_both_forms_of_the_secret(self) -> None:
        key = Ed25519PrivateKey.generate()
        for public in (False, True):
            secret = Secret(ed25519_secret(public=public, key=key))
            entry = signature(signature_headers(keys([secret]), ID, 7, BODY))
            message = f"{ID}.7.".encode() + BODY
            self.verify(key.public_key(), entry, message)
            self.assertRaises(
                InvalidSignature, self.verify, key.public_key(), entry, message + b"x"
            )

    def test_both_kinds_at_once(self) -> None:
        secrets = [Secret(SECRET), Secret(ed25519_secret())]
        entries = signature(signature_headers(keys(secrets), ID, 1_614_265_330, BODY)).split(" ")
        self.assertEqual(entries[0], SIGNATURE)
        self.assertTrue(entries[1].startswith("v1a,"))


class BadSecretTests(SynchronousTestCase):
    def test_what_is_no_key_is_refused_without_being_shown(self) -> None:
        matching = ed25519_secret(public=True)
        octets = base64.b64decode(matching[5:])
        mixed = "whsk_" + base64.b64encode(octets[:32] + bytes(32)).decode()
        for text, says in (
            ("whsec_hunter2!", "is not base64"),
            ("whsec_" + base64.b64encode(b"x" * 23).decode(), "24 to 64 octets, this one 23"),
            ("whsec_" + base64.b64encode(b"x" * 65).decode(), "24 to 64 octets, this one 65"),
            ("whsec_", "this one 0"),
            ("whsk_" + base64.b64encode(b"x" * 33).decode(), "this one 33"),
            ("whsk_ä", "is not base64"),
            (mixed, "do not match"),
        ):
            error = self.assertRaises(ConfigError, keys, [Secret(text)])
            self.assertIn(says, str(error))
            if len(text) > 6:
                self.assertNotIn(text[6:], str(error))
