"""Where events go: Twisted's log, as lines for people or as JSON lines for programs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer

from mailsvc.events import Event, printable

_log = Logger(namespace="mailsvc")
_LEVELS = {level.name: level for level in LogLevel.iterconstants()}


def emit(event: Event) -> None:
    """Log an event."""
    _log.emit(_LEVELS[event.level], "{mailsvc_text}", mailsvc_text=event.text(), mailsvc=event)


def _plain(value: object) -> str:
    return str(value)


@implementer(ILogObserver)
class JSONLines:
    """Writes each log event as one line of JSON, in ASCII.

    Every line has ``time`` (RFC 3339, UTC), ``level`` and ``event``; events of mailsvc have their
    fields beside, what Twisted itself says has ``event: "log"`` and ``text``.
    """

    def __init__(self, stream: Callable[[], TextIO]) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        when = datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": when.replace("+00:00", "Z"),
            "level": event["log_level"].name,
        }
        ours = event.get("mailsvc")
        if isinstance(ours, Event):
            line["event"] = ours.name
            line |= {key: _value(value) for key, value in ours.values().items()}
        else:
            line["event"] = "log"
            line["text"] = printable(formatEvent(event) or "", 4000)
            failure = event.get("log_failure")
            if failure is not None:
                line["failure"] = printable(failure.getTraceback(), 8000)
        stream = self._stream()
        stream.write(msgspec.json.encode(line).decode("ascii", "backslashreplace") + "\n")
        stream.flush()


def _value(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, tuple):
        return [_value(each) for each in value]
    return printable(value, 4000)
