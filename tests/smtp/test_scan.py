"""The scans of content, against plain twins that go octet by octet; requirements 2 and 4."""

from __future__ import annotations

import re
import subprocess
import sys
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.smtp import scan

#: Octets that matter among runs that fill a vector of the processor.
OCTETS = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\r\n.", b"\0", b"\xff", b"x" * 15, b"y" * 70]),
    max_size=24,
).map(b"".join)


def plain_paired(data: bytes, after_cr: bool) -> bool:
    """As the docstring of :func:`scan.paired` has it."""
    whole = (b"\r" if after_cr else b"") + data
    whole = whole.removesuffix(b"\r") if data.endswith(b"\r") else whole
    return re.sub(rb"\r\n", b"", whole).translate(None, b"\r\n") == re.sub(rb"\r\n", b"", whole)


#: How this machine does it, and how it is done where there is no StringZilla.
WAYS = [
    {name: getattr(scan, name) for name in ("_count", "_find", "_translate")},
    {"_count": bytes.count, "_find": bytes.find, "_translate": scan.bytes_translate},
]


class ScanTests(SynchronousTestCase):
    """Both ways."""

    @settings(max_examples=1000, deadline=None)
    @given(OCTETS.filter(bool), st.booleans())
    def test_paired_equals_its_plain_twin(self, data: bytes, after_cr: bool) -> None:
        for way in WAYS:
            with patch.multiple(scan, **way):
                self.assertEqual(scan.paired(data, after_cr), plain_paired(data, after_cr), data)

    def test_paired_looks_across_its_pieces(self) -> None:
        for way in WAYS:
            for tail, good in ((b"\r\n", True), (b"\r", True), (b"\n", False), (b"\rx", False)):
                for size in range((1 << 16) - 3, (1 << 16) + 2):
                    data = b"x" * size + tail
                    with patch.multiple(scan, **way):
                        self.assertEqual(scan.paired(data, False), good, (size, tail))
                        self.assertEqual(scan.paired(data + b"\n", False), tail == b"\r")

    @settings(max_examples=1000, deadline=None)
    @given(OCTETS, st.sampled_from([b"\r\n.", b"\r\n.\r\n"]), st.integers(0, 100))
    def test_find_and_count_are_those_of_octets(
        self, data: bytes, octets: bytes, start: int
    ) -> None:
        start = min(start, len(data))
        for way in WAYS:
            with patch.multiple(scan, **way):
                self.assertEqual(scan.find(data, octets, start), data.find(octets, start))
                for stop in (start, (start + len(data)) // 2, len(data)):
                    found = scan.count(data, octets, start, stop)
                    self.assertEqual(found, data.count(octets, start, stop))

    def test_without_the_library_the_module_takes_what_octets_have(self) -> None:
        program = (
            "import sys; sys.modules['stringzilla'] = None\n"
            "from mailsvc.smtp import scan\n"
            "print(scan._find is bytes.find, scan.paired(b'a\\r\\n', False))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "True True\n")
