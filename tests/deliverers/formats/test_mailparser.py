"""What the ``raw`` format sends is read by the parser that receivers on Node.js have."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.payload import Stream
from tests.deliverers.formats.mails import MAIL, parsed, payload

#: npm's, since Debian has no package of it; ``.ci/run`` says where it is.
MODULES = os.environ.get("NPM_MODULES", "/usr/local/lib/node_modules")

PARSING = """
const { createHash } = require('crypto');
const { simpleParser } = require('mailparser');
simpleParser(process.stdin).then(mail => console.log(JSON.stringify({
  from: mail.from.value, to: mail.to.value, subject: mail.subject, text: mail.text,
  attachments: mail.attachments.map(each => [
    each.filename || '', each.contentType, createHash('sha256').update(each.content).digest('hex')
  ]),
})));
"""


@pytest.mark.proof
class MailparserTests(SynchronousTestCase):
    @pytest.mark.needs("node", f"{MODULES}/mailparser")
    def test_it_reads_the_mail_that_was_sent(self) -> None:
        made = payload("raw")
        self.assertEqual(made.content_type, "message/rfc822")
        assert isinstance(made.body, Stream)
        with made.body.content.open() as reader:
            body = made.body.prefix + reader.read()
        self.assertEqual(body, MAIL)
        done = subprocess.run(
            ["node", "-e", PARSING],
            input=body,
            capture_output=True,
            env={**os.environ, "NODE_PATH": MODULES},
            timeout=60,
            check=True,
        )
        read = json.loads(done.stdout)
        mail = parsed(MAIL)
        self.assertEqual(read["subject"], mail.subject)
        # It takes blanks at the ends of lines away (RFC 2045 section 6.7, rule 3).
        self.assertEqual(read["text"].split(), mail.text.split(), "the words of the text")
        for name, boxes in (("from", mail.sender), ("to", mail.to)):
            self.assertEqual(
                [(each["name"], each["address"]) for each in read[name]],
                [(box.name, box.address) for box in boxes],
            )
        self.assertEqual(
            sorted(map(tuple, read["attachments"])),
            sorted(
                (each.filename, each.content_type, hashlib.sha256(each.content).hexdigest())
                for each in mail.attachments
            ),
        )
