"""The sections of the table, in its order."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.sections import accepting, bulk, delivering, idle, scale
from benchmarks.sections.run import Run, Section

#: What ``--only`` chooses from.
SECTIONS: dict[str, Callable[[Run], Section]] = {
    "accept": accepting.accept,
    "parts": accepting.parts_alone,
    "latency": accepting.latency,
    "large": bulk.large,
    "tls": bulk.tls,
    "idle": idle.idle,
    "maildir": delivering.maildir,
    "webhook": delivering.webhook,
    "processes": scale.processes,
    "backlog": scale.backlog,
    "soak": scale.soak,
    "sessions": accepting.by_sessions,
    "load": accepting.by_load,
}
