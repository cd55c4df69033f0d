"""Fuzzing the session, guided by coverage.  Requirements 2, 4, 25 and 26."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from .dialogue import DIRECTORY, read
from .fuzz import POLICIES, check
from .owner import Owner

#: Seconds of fuzzing; MAILSVC_FUZZ_SECONDS makes it longer.
SECONDS = int(os.environ.get("MAILSVC_FUZZ_SECONDS", "60"))
ROOT = Path(__file__).parent.parent.parent


def seeds() -> list[bytes]:
    """Return what the clients of the dialogues send, for each policy."""
    return [
        bytes([policy, number % 256]) + b"".join(step.sent for step in read(path).steps)
        for number, path in enumerate(sorted(DIRECTORY.glob("*.txt")))
        for policy in range(len(POLICIES))
    ]


class CheckTests(SynchronousTestCase):
    """What the fuzzer checks holds for the dialogues, and can fail."""

    def test_the_dialogues(self) -> None:
        for seed in seeds():
            check(seed)

    def test_starttls_with_spaces_behind_it(self) -> None:
        """Trailing spaces belong to the command, however many; they are no residue."""
        for spaces in (b"", b" ", b"\t" * 40):
            check(b"\4\0EHLO client.example\r\nSTARTTLS" + spaces + b"\r\n")

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=300))
    def test_any_octets(self, octets: bytes) -> None:
        check(octets)

    def test_it_sees_a_difference(self) -> None:
        """A session that drops what comes in small segments would be found."""
        feed = Owner.feed

        def forgetful(owner: Owner, segments: list[bytes]) -> None:
            feed(owner, [segment for segment in segments if len(segment) > 2])

        self.patch(Owner, "feed", forgetful)
        self.assertRaises(AssertionError, check, b"\0\0" + b"NOOP\r\n" * 200)


@pytest.mark.proof
class FuzzTests(SynchronousTestCase):
    """The fuzzer itself, in a process of its own."""

    def test_fuzz(self) -> None:
        if importlib.util.find_spec("atheris") is None:
            raise SkipTest("atheris is not installed (pip install 'mailsvc[proof]')")
        corpus = Path(self.mktemp())
        corpus.mkdir(parents=True)
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
        command = [sys.executable, "-m", "tests.smtp.fuzz", f"-max_total_time={SECONDS}"]
        command += ["-max_len=4096", f"-artifact_prefix={corpus.resolve()}/crash-"]
        done = subprocess.run(
            [*command, str(corpus.resolve())],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS + 300,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        self.assertIn("Done ", done.stderr)
