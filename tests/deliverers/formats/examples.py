"""The example payloads of ``docs/webhooks.md``, and the JSON Schema beside it.

``python -m tests.deliverers.formats.examples`` writes both; a test says when that is due.
"""

from __future__ import annotations

import json
import re
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl

import msgspec

from mailsvc.deliverers.webhook.formats import FORMATS
from mailsvc.deliverers.webhook.formats.mailsvc import ReceivedMail
from tests.deliverers.formats.mails import TEXT_ONLY, body, options, payload

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "webhooks.md"
SCHEMA = DOCS / "webhook.schema.json"

_EXAMPLE = re.compile(
    r"(<!-- example: (?P<name>[a-z-]+) -->\n```[a-z]*\n).*?(```\n<!-- end -->)", re.DOTALL
)

#: Example's name to the format's, and whether it shows the whole mail.
EXAMPLES = {name: (name, False) for name in FORMATS} | {
    "sendgrid-raw": ("sendgrid", True),
    "mailgun-mime": ("mailgun", True),
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the ``mailsvc`` format."""
    made = msgspec.json.schema(ReceivedMail)
    title = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A mail as mailsvc posts it, version 1",
    }
    return title | made


def schema_text() -> str:
    """Return the schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def example(name: str) -> str:
    """Return an example payload as text."""
    format, raw = EXAMPLES[name]
    url = "https://app.example.com/inbound" + ("/mime" if raw else "")
    short = raw or not FORMATS[format].wants_mail
    given = options(url, raw=raw)
    with mock.patch("secrets.token_hex", side_effect=lambda count: ("0123456789" * 9)[: 2 * count]):
        made = (
            payload(format, TEXT_ONLY, None, given)
            if short
            else payload(format, given_options=given)
        )
    octets = body(made)
    lines = [f"Content-Type: {made.content_type}"]
    lines += [f"{name}: {value}" for name, value in made.headers]
    return "\n".join(lines) + "\n\n" + _shown(made.content_type, octets)


def _shown(content_type: str, octets: bytes) -> str:
    if content_type.startswith("application/json"):
        return json.dumps(json.loads(octets), indent=2, ensure_ascii=False) + "\n"
    if content_type == "application/x-www-form-urlencoded":
        pairs = parse_qsl(octets.decode("ascii"), keep_blank_values=True)
        return "".join(f"{name} = {_one_line(value)}\n" for name, value in pairs)
    if not content_type.startswith("multipart/"):
        return octets.decode("utf-8").replace("\r\n", "\n")
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    lines = []
    for part in BytesParser(policy=HTTP).parsebytes(head + octets).iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_filename() is None:
            lines.append(f"{name} = {_one_line(content.decode('utf-8'))}\n")
        else:
            size = f"{len(content)} octets"
            lines.append(f"{name} = {part.get_filename()!r}, {part.get_content_type()}, {size}\n")
    return "".join(lines)


def _one_line(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\\n")


def page(text: str) -> str:
    """Return the page with every example made anew."""
    return _EXAMPLE.sub(lambda found: found[1] + example(found["name"]) + found[3], text)


def main() -> None:
    """Write the page's examples and the schema."""
    SCHEMA.write_text(schema_text(), "utf-8")
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
