"""What a section gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.rounds import Row
from benchmarks.servers.server import Server, ServerFailed
from benchmarks.workplace import Missing, Workplace


@dataclass
class Section:
    """One section's figures.

    :ivar values: single figures, by name.
    :ivar notes: what was left out, and why.
    :ivar remarks: what has to be known of the figures.
    """

    rows: list[Row] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass
class Run:
    """How the sections are to be measured.

    :ivar rounds: of each server under each load.
    :ivar seconds: of each round.
    :ivar quick: a smoke run: small, and its figures mean nothing.
    :ivar peers: keys of the servers to measure; empty: all.
    """

    workplace: Workplace
    rounds: int = 3
    seconds: float = 4
    quick: bool = False
    peers: frozenset[str] = frozenset()
    soak_seconds: float = 1800

    @contextmanager
    def started(
        self,
        section: Section,
        kinds: Sequence[type[Server]],
        prepare: Callable[[Server], None] = lambda server: None,
    ) -> Iterator[list[Server]]:
        """Start one server of each kind; what is missing or does not start becomes a note."""
        with ExitStack() as stack:
            servers = []
            for kind in kinds:
                if self.peers and kind.key not in self.peers:
                    continue
                try:
                    server = kind(self.workplace)
                    prepare(server)
                    servers.append(stack.enter_context(server))
                except (Missing, ServerFailed) as missing:
                    section.notes.append(f"{kind.title}: {missing}".splitlines()[0])
                    print(f"  left out: {section.notes[-1]}", flush=True)
            yield servers
