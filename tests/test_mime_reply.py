"""The reply without history and signature, and text from HTML."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.mime.htmltext import html_to_text
from mailsvc.mime.reply import split_lines, split_reply

#: One line, as the mail programs of many languages write it above a quotation.
ATTRIBUTIONS = (
    "On Mon, Jan 1, 2024 at 10:00 AM Bob <bob@example.org> wrote:",
    "On 01/02/2024 10:00, Bob wrote:",
    "Am 01.02.24 um 10:00 schrieb Bob:",
    "Am Mo., 1. Jan. 2024 um 10:00 Uhr schrieb Bob <bob@example.org>:",
    "Le lun. 1 janv. 2024 à 10:00, Bob <bob@example.org> a écrit :",
    "El lun, 1 ene 2024 a las 10:00, Bob (<bob@example.org>) escribió:",
    "Il giorno lun 1 gen 2024 alle ore 10:00 Bob <bob@example.org> ha scritto:",
    "Em seg., 1 de jan. de 2024 às 10:00, Bob <bob@example.org> escreveu:",
    "Op ma 1 jan 2024 om 10:00 schreef Bob <bob@example.org>:",
    "Den mån 1 jan. 2024 kl 10:00 skrev Bob <bob@example.org>:",
    "W dniu 01.01.2024 o 10:00, Bob pisze:",
    "pon., 1 sty 2024 o 10:00 Bob <bob@example.org> napisał(a):",
    "Dne po 1. 1. 2024 10:00 uživatel Bob <bob@example.org> napsal:",
    "пн, 1 янв. 2024 г. в 10:00, Bob <bob@example.org>:",
    "1 января 2024 г. Bob <bob@example.org> написал:",
    "ma 1. tammik. 2024 klo 10.00 Bob (bob@example.org) kirjoitti:",
    "Bob <bob@example.org>, 1 Oca 2024 Pzt, 10:00 tarihinde şunu yazdı:",
    "Bob <bob@example.org> ezt írta (időpont: 2024. jan. 1., H, 10:00):",
    "2024年1月1日(月) 10:00 Bob <bob@example.org>:",
    "Bob <bob@example.org> 于2024年1月1日周一 10:00写道：",
    "2024년 1월 1일 (월) 오전 10:00, Bob <bob@example.org>님이 작성:",
)

#: What lines are made of: little of it means anything, so that most texts have no history.
SCRAPS = (
    *("word", "über", " ", "\t", "\xa0", "\x0b", "-", "--", "-- ", ">", ":", "：", "_", "="),
    *("___ original message", "=== original message", "-- original message"),
    *("Sent from my iPhone", "From: a", "Sent: b", "To: c", "On 1 May b@x wrote:"),
)

OUTLOOK = (
    "From: Bob\nSent: Monday, 1 January 2024\nTo: Ann\nSubject: x\n",
    "Von: Bob <b@x>\nGesendet: Montag\nAn: Ann\nBetreff: x\n",
    "*De :* Bob\n*Envoyé :* lundi\n*À :* Ann\n*Objet :* x\n",
    "________________________________\nFrom: Bob\nSent: Monday\nTo: Ann\n",
    "-----\n\nFrom: Bob\nSent: Monday\nTo: Ann\n",
    "-----Original Message-----\nFrom: Bob\n",
    "-------- Ursprüngliche Nachricht --------\nVon: Bob\n",
    "--- Oorspronkelijk bericht ---\n",
)


class ReplyTests(SynchronousTestCase):
    def test_nothing_to_strip(self) -> None:
        self.assertEqual(split_reply("One\n\nTwo: three\n"), ("One\n\nTwo: three", ""))
        self.assertEqual(split_reply(""), ("", ""))

    def test_top_posting(self) -> None:
        for line in ATTRIBUTIONS:
            text = f"Yes.\n\n{line}\n\n> Do you?\n>> more\n"
            self.assertEqual(split_reply(text), ("Yes.", ""), line)

    def test_bottom_posting(self) -> None:
        for line in ATTRIBUTIONS:
            text = f"{line}\n> Do you?\n\nYes.\n"
            self.assertEqual(split_reply(text), ("Yes.", ""), line)

    def test_interleaved(self) -> None:
        text = f"Hi,\n\n{ATTRIBUTIONS[0]}\n> One?\nYes.\n\n> Two?\nNo.\n"
        self.assertEqual(split_reply(text)[0], "Hi,\n\nYes.\n\nNo.")

    def test_folded_attribution(self) -> None:
        first = "On Mon, Jan 1, 2024 at 10:00 AM Robert\nSomebody <bob@example.org>\nwrote:"
        self.assertEqual(split_reply(f"Yes.\n\n{first}\n> x\n")[0], "Yes.")
        text = "Yes.\n\nBob\n<bob@example.org> wrote:\n> x\n"
        self.assertEqual(split_reply(text)[0], "Yes.\n\nBob")

    def test_history_without_quotation_marks(self) -> None:
        text = f"Yes.\n\n{ATTRIBUTIONS[0]}\n\nDo you?\n"
        self.assertEqual(split_reply(text)[0], "Yes.")

    def test_attribution_above_unquoted_text_only(self) -> None:
        self.assertEqual(split_reply(f"{ATTRIBUTIONS[0]}\n\nDo you?\n")[0], "Do you?")

    def test_sentences_stay(self) -> None:
        for text in (
            "On Tuesday he wrote:\nnothing.",
            "Here is what Bob <bob@x> wrote:\n\nnothing.",
            "Agenda for 3 May:\n\n1. x",
            "From: here\nto there",
            "--- a rule ---\ntext",
            "-----\ntext: x",
        ):
            self.assertEqual(split_reply(f"Hello.\n\n{text}\n")[0], f"Hello.\n\n{text}")

    def test_outlook(self) -> None:
        for history in OUTLOOK:
            self.assertEqual(split_reply(f"Yes.\n\n{history}\nDo you?\n"), ("Yes.", ""), history)

    def test_outlook_without_a_reply_stays(self) -> None:
        self.assertEqual(split_reply(OUTLOOK[0] + "\nText\n")[0], OUTLOOK[0] + "\nText")

    def test_forwarded_message_stays(self) -> None:
        for mark in ("---------- Forwarded message ---------", "Begin forwarded message:"):
            text = f"Look.\n\n{mark}\nFrom: Bob\nDate: x\nTo: Ann\n\n> quoted\nText"
            self.assertEqual(split_reply(text)[0], text)

    def test_signature(self) -> None:
        self.assertEqual(split_reply("Yes.\n\n-- \nAnn\n+1\n"), ("Yes.", "Ann\n+1"))
        self.assertEqual(split_reply("Yes.\n--\nAnn\n"), ("Yes.", "Ann"))
        self.assertEqual(split_reply("-- \nAnn\n"), ("--\nAnn", ""))

    def test_signature_above_the_history(self) -> None:
        text = f"Yes.\n-- \nAnn\n\n{ATTRIBUTIONS[0]}\n> Do you?\n> -- \n> Bob\n"
        self.assertEqual(split_reply(text), ("Yes.", "Ann"))

    def test_device(self) -> None:
        for line in (
            "Sent from my iPhone",
            "Get Outlook for iOS<https://aka.ms/o0ukef>",
            "Von meinem iPhone gesendet",
            "Envoyé de mon iPhone",
        ):
            self.assertEqual(split_reply(f"Yes.\n\n{line}\n"), ("Yes.", line))
        self.assertEqual(split_reply("Sent from my iPhone"), ("Sent from my iPhone", ""))

    def test_indented_and_blank_lines(self) -> None:
        self.assertEqual(split_reply("a\n \t\n   b\n  > q\n")[0], "a\n\n   b")

    def test_limit(self) -> None:
        """What is beyond it is not searched, and belongs to what stands before it."""
        for text, limit, wanted in (
            ("a\n> b\nc\n> d", 2, ("a\nc\n> d", "")),
            ("a\n> b\nc\n> d", 8, ("a\nc", "")),
            ("a\n-- \nAnn\n> d", 5, ("a", "Ann\n> d")),
            ("a\nOn 1 May b@x wrote:\nc\n> d", 3, ("a", "")),
            (
                "a\n> b\n---- Forwarded message\nc\n> d",
                8,
                ("a\n---- Forwarded message\nc\n> d", ""),
            ),
        ):
            self.assertEqual(split_reply(text, limit), wanted)

    @settings(deadline=None, max_examples=500)
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(("", "one two", "über ", " > a", "\t> a", "Sent from my iPhone")),
                st.lists(st.sampled_from(SCRAPS), max_size=3).map("".join),
            ),
            max_size=6,
        ).map("\n".join),
        st.integers(0, 60),
    )
    def test_a_text_without_marks_is_split_as_its_lines_are(self, text: str, limit: int) -> None:
        cut = text.find("\n", limit)
        searched, rest = (text, "") if cut < 0 else (text[:cut], text[cut:])
        wanted = split_lines(searched.split("\n"), rest)
        self.assertEqual(split_reply(text, limit), wanted)


class HtmlTextTests(SynchronousTestCase):
    def test_pages(self) -> None:
        for html, text in (
            ("", ""),
            ("plain &amp; <b>bold</b>", "plain & bold"),
            ("a<br>b<br/>c", "a\nb\nc"),
            ("<p>one</p>\n <p>two</p>", "one\n\ntwo"),
            ("<div>one</div><div>two</div>three", "one\ntwo\nthree"),
            ("<head><title>x</title></head><body>y", "y"),
            ("<style>p {}</STYLE>a<script>if (a < b) {}</script>b", "ab"),
            ("a<!-- <p> -->b<!doctype x>c<?php x ?>d", "abcd"),
            ("x<blockquote>q<blockquote>r</blockquote></blockquote>y", "x\n> q\n> > r\ny"),
            ("</blockquote>x", "x"),
            ("a < b & c &euro;&#8364;&#x20ac;", "a < b & c €€€"),
            ("a&nbsp;b", "a b"),
            ("&#" + "9" * 5000 + ";", "\ufffd"),
            ("a<p", "a"),
            ("a<script>b", "a"),
            ("a<!-- b", "a"),
            ("  a \n b  ", "a b"),
        ):
            self.assertEqual(html_to_text(html), text, html[:50])

    def test_limit(self) -> None:
        self.assertEqual(html_to_text("abcdef", 3), "abc")
