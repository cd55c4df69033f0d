"""Where events go: Twisted's log, as lines for people or as JSON lines for programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEvent,
    formatTime,
    textFileLogObserver,
)
from zope.interface import classImplements

from mailsvc.events import Event
from mailsvc.wording import printable

_log = Logger(namespace="mailsvc")
_LEVELS = {level.name: level for level in LogLevel.iterconstants()}


def emit(event: Event) -> None:
    """Log an event through Twisted's log, to whatever observer twistd was given."""
    _log.emit(_LEVELS[event.level], "{mailsvc_text}", mailsvc_text=event.text(), mailsvc=event)


#: Calls a function soon, in this thread.
Later = Callable[[Callable[[], None]], object]


def _at_once(flush: Callable[[], None]) -> None:
    flush()


class _Lines:
    """Lines on their way to a stream: those of one turn of the reactor in one system call.

    A log that cannot be written does not keep mail from its way.

    :param later: calls at the end of the turn.
    """

    def __init__(self, stream: Callable[[], TextIO], later: Later) -> None:
        self._stream = stream
        self._later = later
        self._waiting: list[str] = []

    def write(self, line: str) -> None:
        """Write a line when the turn ends.

        It waits here, not in the stream: that of containers (PYTHONUNBUFFERED) has no buffer.
        """
        self._waiting.append(line)
        if len(self._waiting) == 1:
            self._later(self.flush)

    def flush(self) -> None:
        """Write what waits now."""
        lines, self._waiting = self._waiting, []
        if not lines:
            return
        try:
            stream = self._stream()
            stream.write("".join(lines))
            stream.flush()
        except (OSError, ValueError):
            pass


class TextLines:
    """Writes lines for people, as twistd does by itself.

    A line by way of :class:`~twisted.logger.Logger` costs 30 us, and a message has two to three;
    :meth:`emit` writes the same line for 3 (``tests/test_logs.py`` compares them), and a system
    call for each would cost 10 more.

    :param now: the time, in seconds since the epoch.
    :param later: calls a function at the end of this turn of the reactor.
    """

    def __init__(
        self, stream: TextIO, now: Callable[[], float] = time.time, later: Later = _at_once
    ) -> None:
        self._lines = _Lines(lambda: stream, later)
        self._now = now
        self._others = textFileLogObserver(stream)
        self._second = -1
        self._stamp = ""

    def __call__(self, event: LogEvent) -> None:
        """Write one event of Twisted's log, behind what waits."""
        self._lines.flush()
        self._others(event)

    def emit(self, event: Event) -> None:
        """Write one event of mailsvc."""
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._stamp = formatTime(second)
        text = event.text()
        if "\n" in text:
            text = text.replace("\n", "\n\t")
        self._lines.write(f"{self._stamp} [mailsvc#{event.level}] {text}\n")


classImplements(TextLines, ILogObserver)


class JSONLines:
    """Writes each log event as one line of JSON, in ASCII.

    Every line has ``time`` (RFC 3339, UTC), ``level`` and ``event``; events of mailsvc have their
    fields beside, what Twisted itself says has ``event: "log"`` and ``text``.

    :param now: the time, in seconds since the epoch.
    :param later: calls a function at the end of this turn of the reactor.
    """

    def __init__(
        self,
        stream: Callable[[], TextIO],
        now: Callable[[], float] = time.time,
        later: Later = _at_once,
    ) -> None:
        self._lines = _Lines(stream, later)
        self._now = now

    def __call__(self, event: LogEvent) -> None:
        """Write one event, at once: when twistd says its last words, no turn comes any more."""
        ours = event.get("mailsvc")
        name = "log"
        if isinstance(ours, Event):
            name, fields = ours.name, _fields(ours)
        else:
            fields = {"text": printable(formatEvent(event) or "", 4000)}
            failure = event.get("log_failure")
            if failure is not None:
                fields["failure"] = printable(failure.getTraceback(), 8000)
        self._line(event["log_time"], event["log_level"].name, name, fields)
        self._lines.flush()

    def emit(self, event: Event) -> None:
        """Write one event of mailsvc, without the cost of Twisted's log."""
        self._line(self._now(), event.level, event.name, _fields(event))

    def _line(self, when: float, level: str, name: str, fields: Mapping[str, object]) -> None:
        stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
        line = {"time": stamp.replace("+00:00", "Z"), "level": level, "event": name, **fields}
        encoded = msgspec.json.encode(line).decode("ascii", "backslashreplace")
        self._lines.write(encoded + "\n")


classImplements(JSONLines, ILogObserver)


def _fields(event: Event) -> dict[str, object]:
    return {key: _value(value) for key, value in event.values().items()}


def _value(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, tuple):
        return [_value(each) for each in value]
    return printable(value, 4000)
