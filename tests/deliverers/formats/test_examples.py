"""The documentation's payloads and schema are what the formats make."""

from __future__ import annotations

import json

import jsonschema
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats import FORMATS
from tests.deliverers.formats import examples

HINT = "run: python -m tests.deliverers.formats.examples"


class ExampleTests(SynchronousTestCase):
    maxDiff = None

    def test_page_is_up_to_date(self) -> None:
        text = examples.PAGE.read_text("utf-8")
        self.assertEqual(examples.page(text), text, HINT)

    def test_every_format_has_an_example(self) -> None:
        text = examples.PAGE.read_text("utf-8")
        for name in (*FORMATS, *examples.EXAMPLES):
            self.assertIn(f"<!-- example: {name} -->", text)
        for name in FORMATS:
            self.assertIn(f"### {name}\n", text)

    def test_schema_is_up_to_date(self) -> None:
        self.assertEqual(examples.SCHEMA.read_text("utf-8"), examples.schema_text(), HINT)

    def test_schema_is_one(self) -> None:
        jsonschema.Draft202012Validator.check_schema(json.loads(examples.schema_text()))

    def test_a_change_is_seen(self) -> None:
        text = examples.PAGE.read_text("utf-8")
        self.assertNotEqual(examples.page(text.replace('"attempt": 2', '"attempt": 3')), "")
        self.assertEqual(examples.page(text.replace('"attempt": 2', '"attempt": 3')), text)
