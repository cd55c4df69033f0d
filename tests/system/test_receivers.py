"""The receivers in ``docs/receivers`` verify what mailsvc sends, and keep it.

Each runs as it would: in a process and a directory of its own, with the secret in its environment.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.webhook.formats import FORMATS
from mailsvc.deliverers.webhook.signing import keys, signature_headers
from mailsvc.secretfile import Secret
from tests.deliverers.formats.mails import MAIL, Content, delivery, options, parsed

RECEIVERS = Path(__file__).parents[2] / "docs/examples/receivers"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
ID = "01HK1XGZ7KQ2-1"

#: A program that posts what it reads, and says how it was answered.
_POSTING = """
import base64, json, sys
statuses = [post(headers, base64.b64decode(body)) for headers, body in json.load(sys.stdin)]
print(json.dumps(statuses))
"""
FLASK = """
from flask_receiver import app
client = app.test_client()
def post(headers, body):
    return client.post("/inbound", headers=headers, data=body).status_code
"""
FASTAPI = """
from fastapi.testclient import TestClient
from fastapi_receiver import app
client = TestClient(app)
def post(headers, body):
    return client.post("/inbound", headers=headers, content=body).status_code
"""
DJANGO = """
import django
from django.conf import settings
settings.configure(
    ROOT_URLCONF="django_receiver",
    ALLOWED_HOSTS=["testserver"],
    MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
    DATA_UPLOAD_MAX_MEMORY_SIZE=100 * 2**20,
)
django.setup()
from django.test import Client
client = Client(enforce_csrf_checks=True)
def post(headers, body):
    return client.generic("POST", "/inbound", body, "application/json", headers=headers).status_code
"""
TWISTED = """
import base64, json, sys
import treq
from twisted.internet import endpoints, task
from twisted.web.server import Site
from twisted_receiver import Inbound

async def posted(reactor):
    endpoint = endpoints.serverFromString(reactor, "tcp:0:interface=127.0.0.1")
    port = await endpoint.listen(Site(Inbound()))
    url = f"http://127.0.0.1:{port.getHost().port}/inbound"
    statuses = []
    for headers, body in json.load(sys.stdin):
        answer = await treq.post(url, headers=headers, data=base64.b64decode(body))
        await answer.content()
        statuses.append(answer.code)
    print(json.dumps(statuses))

task.react(posted)
"""


@dataclass(frozen=True)
class Post:
    headers: dict[str, str]
    body: bytes


def mail(octets: bytes = MAIL, secrets: Sequence[str] = (SECRET,), age: int = 0) -> Post:
    """Return a request as the webhook destination makes it."""
    made = FORMATS["mailsvc"].payload(delivery(), Content(octets), parsed(octets), options())
    assert isinstance(made.body, bytes)
    in_force = keys(tuple(Secret(secret) for secret in secrets))
    signature = signature_headers(in_force, ID, int(time.time()) - age, made.body)
    return Post({"Content-Type": made.content_type, **dict(signature)}, made.body)


def requests() -> list[tuple[Post, int]]:
    """Return requests, and how each is to be answered."""
    good, large = mail(), mail(MAIL + b"x" * 5_000_000)
    tampered = Post(good.headers, good.body.replace(b"zoe@example.org", b"eve@example.org"))
    unsigned = Post({"Content-Type": "application/json"}, good.body)
    return [
        (tampered, 401),
        (unsigned, 401),
        (mail(secrets=[OLD_SECRET]), 401),
        (mail(age=3600), 401),
        (good, 204),
        (good, 204),
        (mail(secrets=[OLD_SECRET, SECRET]), 204),
        (large, 204),
    ]


@pytest.mark.proof
class ReceiverTests(SynchronousTestCase):
    """Requirement 52, from the receiver's side."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.environment = os.environ | {
            "PYTHONPATH": str(RECEIVERS),
            "WEBHOOK_SECRET": SECRET,
            "PORT": "0",
        }

    def assert_kept(self, posts: Sequence[Post]) -> None:
        (kept,) = (self.folder / "inbox").iterdir()
        self.assertEqual(kept.name, f"{ID}.json")
        self.assertEqual(kept.read_bytes(), posts[-1].body)

    def check(self, program: str) -> None:
        posts, wanted = zip(*requests(), strict=True)
        pairs = [(post.headers, base64.b64encode(post.body).decode()) for post in posts]
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            cwd=self.folder,
            env=self.environment,
            input=json.dumps(pairs),
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(tuple(json.loads(run.stdout)), wanted)
        self.assert_kept(posts)

    def test_flask(self) -> None:
        self.check(FLASK + _POSTING)

    def test_fastapi(self) -> None:
        self.check(FASTAPI + _POSTING)

    def test_django(self) -> None:
        self.check(DJANGO + _POSTING)

    def test_twisted(self) -> None:
        self.check(TWISTED)

    @contextmanager
    def node(self) -> Iterator[int]:
        """Run the Express receiver; yield its port."""
        server = subprocess.Popen(
            ["node", str(RECEIVERS / "express_receiver.js")],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline().rpartition(" ")[2])
        finally:
            server.kill()
            server.communicate()

    @pytest.mark.needs("node")
    def test_express(self) -> None:
        self.require_express()
        posts, wanted = zip(*requests(), strict=True)
        statuses = []
        with self.node() as port:
            for post in posts:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", "/inbound", post.body, post.headers)
                statuses.append(connection.getresponse().status)
                connection.close()
        self.assertEqual(tuple(statuses), wanted)
        self.assert_kept(posts)

    def require_express(self) -> None:
        found = subprocess.run(
            ["node", "-e", "require('express')"], cwd=RECEIVERS, capture_output=True, check=False
        )
        if found.returncode and not os.environ.get("CI"):
            pytest.skip("needs express (Debian: node-express)")
        self.assertEqual(found.returncode, 0, found.stderr)
