"""The ``cloudmailin`` format is what CloudMailin's own package for Node.js says that it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.deliverers.formats.mails import (
    HTML_ONLY,
    MAIL,
    TEXT_ONLY,
    UNPARSED,
    body,
    delivery,
    options,
    payload,
)
from tests.deliverers.formats.test_mailparser import MODULES

#: A mail by itself: a literal where the type is named may hold no field that the type lacks, such
#: as ``remote_ip``, which CloudMailin's documentation has.
MAIL_OF = "const made%d = %s;\nconst mail%d: IncomingMail = made%d;\n"
IMPORT = f'import type {{ IncomingMail }} from "{MODULES}/cloudmailin";\n'


@pytest.mark.proof
class TypeTests(SynchronousTestCase):
    maxDiff = None

    @pytest.mark.needs("node", f"{MODULES}/cloudmailin", f"{MODULES}/typescript")
    def test_payloads_are_incoming_mails(self) -> None:
        made = [
            payload("cloudmailin"),
            payload("cloudmailin", TEXT_ONLY, given_delivery=delivery(None)),
            payload("cloudmailin", HTML_ONLY),
            payload("cloudmailin", TEXT_ONLY, UNPARSED),
            payload("cloudmailin", MAIL, given_options=options(inline_limit=8, links=True)),
        ]
        program = IMPORT + "".join(
            MAIL_OF % (number, json.dumps(json.loads(body(each))), number, number)
            for number, each in enumerate(made)
        )
        self.assertEqual(self.checked(program), "")
        self.assertIn(
            "not assignable", self.checked(program.replace('"tls": true', '"tls": "yes"', 1))
        )

    def checked(self, text: str) -> str:
        """Return what the TypeScript compiler finds wrong with a program."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        program = folder / "received.ts"
        program.write_text(text, "utf-8")
        compiler = ["node", f"{MODULES}/typescript/bin/tsc", "--noEmit", "--strict"]
        done = subprocess.run(
            [
                *compiler,
                "--skipLibCheck",
                "--moduleResolution",
                "node",
                "--target",
                "es2022",
                str(program),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr
