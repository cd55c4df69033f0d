"""Formats that are JSON are what the services' own packages for Node.js say that they are."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats import Payload
from tests.deliverers.formats.mails import (
    HTML_ONLY,
    TEXT_ONLY,
    UNPARSED,
    body,
    delivery,
    options,
    payload,
)
from tests.deliverers.formats.test_mailparser import MODULES

IMPORT = f"""\
import type {{ IncomingMail }} from "{MODULES}/cloudmailin";
import type {{ Models }} from "{MODULES}/postmark";
type InboundWebhook = Models.InboundWebhook;
"""
#: A mail by itself: a literal where the type is named may hold no field that the type lacks, such
#: as ``remote_ip``, which CloudMailin's documentation has.
MAIL_OF = "const made%d = %s;\nconst mail%d: %s = made%d;\n"


def payloads(format: str) -> list[Payload]:
    """Return payloads of mails that have everything, and of mails that have little."""
    return [
        payload(format),
        payload(format, TEXT_ONLY, given_delivery=delivery(None)),
        payload(format, b"Subject: x\r\n\r\nx", given_delivery=delivery(None)),
        payload(format, b"From: friends\r\nTo: you\r\n\r\nx", given_delivery=delivery(None)),
        payload(format, HTML_ONLY),
        payload(format, TEXT_ONLY, UNPARSED),
        payload(format, given_options=options(inline_limit=8, links=True)),
        payload(format, given_options=options(raw=True)),
    ]


@pytest.mark.proof
@pytest.mark.needs("node", *(f"{MODULES}/{name}" for name in ("cloudmailin", "postmark")))
@pytest.mark.needs(f"{MODULES}/typescript")
class TypeTests(SynchronousTestCase):
    maxDiff = None

    def test_cloudmailin(self) -> None:
        self.check("IncomingMail", payloads("cloudmailin"), '"tls": true', '"tls": "yes"')

    def test_postmark(self) -> None:
        self.check("InboundWebhook", payloads("postmark"), '"Tag": ""', '"Tag": 1')

    def check(self, kind: str, made: Sequence[Payload], good: str, bad: str) -> None:
        program = IMPORT + "".join(
            MAIL_OF % (number, json.dumps(json.loads(body(each))), number, kind, number)
            for number, each in enumerate(made)
        )
        self.assertEqual(self.checked(program), "")
        self.assertIn("not assignable", self.checked(program.replace(good, bad, 1)))

    def checked(self, text: str) -> str:
        """Return what the TypeScript compiler finds wrong with a program."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        program = folder / "received.ts"
        program.write_text(text, "utf-8")
        done = subprocess.run(
            [
                *("node", f"{MODULES}/typescript/bin/tsc", "--noEmit", "--strict"),
                *("--skipLibCheck", "--moduleResolution", "node", "--target", "es2022"),
                str(program),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr
