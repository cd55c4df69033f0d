"""Links to attachments: signed, for a time, and under two keys while one is replaced."""

from __future__ import annotations

from hashlib import sha256

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.links import LinkExpired, LinkRefused, Links
from mailsvc.parsed import Attachment
from mailsvc.secretfile import Secret

OLD, NEW = Secret("whsec_b2xk"), Secret("whsec_bmV3")
PDF = Attachment(
    "Übersicht.pdf", "application/pdf", "", "attachment", "", b"%PDF", 40, 46, "base64"
)


class LinksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1_700_000_000.5
        self.kept: list[tuple[str, float]] = []

    def links(self, *secrets: Secret, base_url: str = "https://mx.example.com/m/") -> Links:
        return Links(base_url, secrets or (NEW,), 600.0, lambda: self.now, self.retain)

    async def retain(self, message_id: str, until: float) -> bool:
        self.kept.append((message_id, until))
        return True

    def path(self, *secrets: Secret) -> str:
        return self.links(*secrets).url("01HK", PDF).removeprefix("https://mx.example.com")

    def test_a_link_leads_to_its_part(self) -> None:
        path = self.path()
        self.assertTrue(path.startswith("/m/attachments/"))
        linked = self.links().follow(path)
        assert linked is not None
        self.assertEqual(
            (linked.message_id, linked.start, linked.end, linked.encoding, linked.size),
            ("01HK", 40, 46, "base64", 4),
        )
        self.assertEqual((linked.type, linked.name), ("application/pdf", "Übersicht.pdf"))
        self.assertEqual(linked.digest, sha256(b"%PDF").digest())

    def test_it_works_until_its_time(self) -> None:
        path = self.path()
        self.now += 600
        self.assertIsNotNone(self.links().follow(path))
        self.now += 1
        self.assertRaises(LinkExpired, self.links().follow, path)

    def test_a_changed_link_is_refused_whatever_was_changed(self) -> None:
        path = self.path()
        start = len("/m/attachments/")
        for at in range(start, len(path)):
            changed = path[:at] + ("A" if path[at] != "A" else "B") + path[at + 1 :]
            self.assertRaises(LinkRefused, self.links().follow, changed)
        for end in ("", ".", "x", ".x", "é.é", "a.b.c", path[start:-1], path[start:] + "="):
            self.assertRaises(LinkRefused, self.links().follow, "/attachments/" + end)
        # An expired one that is changed is not told that it was good.
        self.now += 10_000
        self.assertRaises(LinkRefused, self.links(OLD).follow, path)

    def test_other_paths_are_none_of_its_business(self) -> None:
        for path in ("", "/", "/attachments", "/favicon.ico"):
            self.assertIsNone(self.links().follow(path))

    def test_two_keys_are_in_force_while_one_is_replaced(self) -> None:
        """Requirement 52: what the old key signed works as long as the old key is there."""
        old = self.path(OLD)
        self.assertIsNotNone(self.links(NEW, OLD).follow(old))
        self.assertRaises(LinkRefused, self.links(NEW).follow, old)
        self.assertIsNotNone(self.links(NEW).follow(self.path(NEW, OLD)))

    def test_a_content_is_kept_longer_than_its_links_work(self) -> None:
        links = self.links()
        linked = links.follow(links.url("01HK", PDF))
        assert linked is not None
        self.successResultOf(self.started(links))
        [(message_id, until)] = self.kept
        self.assertEqual(message_id, "01HK")
        self.assertGreater(until, linked.until)

    def started(self, links: Links) -> Deferred[None]:
        return Deferred.fromCoroutine(links.keep("01HK"))
