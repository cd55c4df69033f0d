"""Every event: one printable line for people, and its fields for the JSON line."""

from __future__ import annotations

import typing

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc import events
from mailsvc.events import (
    CommandRefused,
    Event,
    MessageAccepted,
    MessageRefused,
    Notice,
)
from mailsvc.message import Address
from mailsvc.wording import client, path, printable, shown, took

EVIL = 'a\r\nb\x1b[31m "c" \u202e\ud800 \x00é\x85'


def classes() -> list[type[Event]]:
    """Return every event class, bases excepted."""
    return [
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event) and value.text is not Event.text
    ]


def value(kind: object) -> object:
    """Return the worst value of a type."""
    if kind is str:
        return EVIL
    if kind is int:
        return 12
    if kind is float:
        return 1.5
    if kind is Address:
        return Address(EVIL, "example.com")
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return (value(arguments[0]),) * 7
    if arguments:
        return value(arguments[0])
    raise AssertionError(f"a field of type {kind!r} is new: say here what its worst value is")


def evil(kind: type[Event]) -> Event:
    hints = typing.get_type_hints(kind)
    values = {name: value(hints[name]) for name in kind.__struct_fields__}
    if "id" in values:
        # An id is ours: letters, digits and hyphens.
        values["id"] = "m1-1"
    return kind(**values)


class EventTests(SynchronousTestCase):
    """No line holds an octet that a terminal or a log parser would act on."""

    def test_every_event(self) -> None:
        self.assertGreater(len(classes()), 5)
        for kind in classes():
            event = evil(kind)
            text = event.text()
            self.assertTrue(text.isascii() and text.isprintable(), text)
            self.assertEqual(event.name, kind.__name__)
            self.assertEqual(tuple(event.values()), kind.__struct_fields__)
            self.assertIn(kind.level, ("debug", "info", "warn", "error", "critical"))

    def test_the_base_has_no_words(self) -> None:
        self.assertRaises(NotImplementedError, Event().text)

    def test_what_can_be_missing(self) -> None:
        to = (Address("b", "example.com"),)
        event = MessageAccepted("m1", "192.0.2.1", None, to, ("app", "archive"), 10, 0.25)
        self.assertEqual(
            event.text(),
            "accepted m1 from=<> to=<b@example.com> destination=app,archive size=10"
            " client=192.0.2.1 in 0.250s",
        )

    def test_deliveries(self) -> None:
        """Each line says whose mail it is, where it was to go, how large it is and how long."""
        ann, bob = Address("ann", "example.org"), Address("bob", "example.com")
        what = ("m1-1", "app", ann, bob, 2, 10)
        who = "m1-1 from=<ann@example.org> to=<bob@example.com> destination=app attempt=2 size=10"
        for event, line in (
            (events.Delivered(*what, 0.25), f"delivered {who} in 0.250s"),
            (
                events.Deferred(*what, "the answer was 503", 60, 0.25),
                f"deferred {who} again in 60s, took 0.250s: the answer was 503",
            ),
            (
                events.Died(*what, "the answer was 406", 0.25),
                f"dead {who}, took 0.250s: the answer was 406",
            ),
        ):
            self.assertEqual(event.text(), line)

    def test_a_refused_message(self) -> None:
        ann, bob = Address("ann", "example.org"), Address("bob", "example.com")
        event = MessageRefused("m1", "192.0.2.1", ann, (bob,), 10, 0.25, "452 4.3.1 No room")
        self.assertEqual(
            event.text(),
            "refused m1 from=<ann@example.org> to=<bob@example.com> size=10 client=192.0.2.1"
            " in 0.250s: 452 4.3.1 No room",
        )

    def test_many_recipients_are_counted(self) -> None:
        to = tuple(Address(f"b{number}", "example.com") for number in range(7))
        event = MessageAccepted("m1", "192.0.2.1", to[0], to, ("app",), 10, 0.25, user="alice")
        self.assertIn("to=<b0@example.com>,", event.text())
        self.assertIn(",<b4@example.com> and 2 more destination=app size=10", event.text())
        self.assertIn(" user=alice in", event.text())

    def test_a_refusal_is_one_line(self) -> None:
        event = CommandRefused("192.0.2.1", "RCPT", "a b", "550 5.1.1 No such mailbox")
        self.assertEqual(
            event.text(), "refused RCPT a\\x20b client=192.0.2.1: 550 5.1.1 No such mailbox"
        )
        event = CommandRefused("192.0.2.1", "RCPT", "b", "550 5.1.1 No such mailbox", "")
        self.assertIn("refused RCPT b from=<> client=192.0.2.1: 550", event.text())


class PrintableTests(SynchronousTestCase):
    """Escapes."""

    @settings(deadline=None)
    @given(st.text(max_size=400))
    def test_any_text(self, text: str) -> None:
        for escaped in (printable(text), shown(text)):
            self.assertTrue(escaped.isascii() and (escaped.isprintable() or not escaped))
        self.assertNotIn(" ", shown(text))

    def test_what_was_shown_before_is_shown_the_same(self) -> None:
        """More addresses and hosts than are remembered, some of the worst among them."""
        texts = [EVIL, "a b", *(f"b{number}" for number in range(600))]
        for text in texts + texts[::-1]:
            address = Address(text, "example.com")
            self.assertEqual(path(address), f"<{shown(address)}>")
            self.assertEqual(client(text), f"client={shown(text)}")
        self.assertEqual(client("h", "a b"), "client=h user=a\\x20b")

    @settings(deadline=None)
    @given(st.floats(-1.0, 2.0), st.integers(-10, 5000))
    def test_any_duration(self, seconds: float, tenths: int) -> None:
        """As the format says, however it rounds what lies between two thousandths."""
        for each in (seconds, seconds / 10, tenths / 1000, tenths / 10_000, tenths / 20_000):
            self.assertEqual(took(each), f"{each:.3f}")

    def test_plain_text_stays(self) -> None:
        self.assertEqual(printable("as it is"), "as it is")

    def test_length(self) -> None:
        self.assertEqual(printable("x" * 300), "x" * 253 + "...")
        self.assertEqual(Notice("y" * 3000).text(), "y" * 1997 + "...")
