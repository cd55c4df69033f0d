"""Replies as octets."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.message import Reply
from mailsvc.smtp.replies import octets


class OctetsTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=500)
    @given(
        st.text(st.characters(max_codepoint=130), max_size=30),
        st.integers(1, 20),
        st.sampled_from(["", "2.0.0"]),
        st.booleans(),
    )
    def test_the_quick_way_equals_the_plain_one(
        self, text: str, times: int, status: str, utf8: bool
    ) -> None:
        reply = Reply(250, text * times, status)
        self.assertEqual(octets(reply, utf8=utf8), reply.encode(utf8=utf8))
