"""Finds the spool that a command is about, and who answers for it: the server, or nobody yet."""

from __future__ import annotations

import os
import tomllib
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from mailsvc.cli.screen import CommandError
from mailsvc.control import protocol as wire
from mailsvc.control.client import ControlClient, connect
from mailsvc.spool.view import MessageDetail, QueueEntry, State

#: The spool where neither a configuration nor a spool is named.
DEFAULT_SPOOL = "./mailsvc-data"


def configuration_of(path: str) -> dict[str, Any]:
    """Return a configuration file as it is: a fault elsewhere in it does not hinder a command.

    :raises CommandError: it cannot be read, or is no TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: this is not TOML: {error}") from None


def directory_of(arguments: Namespace) -> str:
    """Return the spool directory that a command is about.

    :raises CommandError: the configuration does not say.
    """
    if arguments.spool:
        return str(arguments.spool)
    if not arguments.config:
        return DEFAULT_SPOOL
    directory = configuration_of(arguments.config).get("spool", DEFAULT_SPOOL)
    if not isinstance(directory, str):
        raise CommandError(f"{arguments.config}: spool: must be a text")
    return directory


class Queue(Protocol):
    """What a command does with a spool, whoever answers for it."""

    running: bool

    def report(self) -> wire.QueueReport:
        """Return how much there is."""

    def entries(
        self, destination: str | None, state: State | None, limit: int, after: str | None
    ) -> Sequence[QueueEntry]:
        """Return a page of deliveries, oldest first."""

    def show(self, id_: str) -> MessageDetail | None:
        """Return a message by its id or that of a delivery."""

    def retry(self, ids: Sequence[str], *, fresh_id: bool) -> int:
        """Make deliveries due now; return how many."""

    def hasten(self, destinations: Sequence[str]) -> None:
        """Take up destinations at full pace."""

    def drop(self, ids: Sequence[str]) -> int:
        """Remove deliveries for good; return how many."""

    def pause(self, destination: str, reason: str) -> None:
        """Keep a destination's queue, but attempt nothing."""

    def resume(self, destination: str) -> bool:
        """End a pause; say whether there was one."""


class ServedQueue:
    """The spool of running servers; any of them answers for all that it holds."""

    running = True

    def __init__(self, clients: Sequence[ControlClient]) -> None:
        self._clients = clients

    def _ask(self, request: wire.Request, result: Any) -> Any:  # noqa: ANN401
        return self._clients[0].ask(request, result)

    def report(self) -> wire.QueueReport:
        """Return how much there is."""
        report: wire.QueueReport = self._ask(wire.AskSummary(), wire.QueueReport)
        return report

    def entries(
        self, destination: str | None, state: State | None, limit: int, after: str | None
    ) -> Sequence[QueueEntry]:
        """Return a page of deliveries, oldest first."""
        request = wire.AskEntries(destination, state, limit, after)
        found: Sequence[QueueEntry] = self._ask(request, tuple[QueueEntry, ...])
        return found

    def show(self, id_: str) -> MessageDetail | None:
        """Return a message by its id or that of a delivery."""
        found: MessageDetail | None = self._ask(wire.AskMessage(id_), MessageDetail | None)
        return found

    def retry(self, ids: Sequence[str], *, fresh_id: bool) -> int:
        """Make deliveries due now; return how many."""
        return int(self._ask(wire.Retry(tuple(ids), fresh_id), int))

    def hasten(self, destinations: Sequence[str]) -> None:
        """Take up destinations at full pace, in every server."""
        for client in self._clients:
            client.ask(wire.Hasten(tuple(destinations)), None)

    def drop(self, ids: Sequence[str]) -> int:
        """Remove deliveries for good; return how many."""
        return int(self._ask(wire.Drop(tuple(ids)), int))

    def pause(self, destination: str, reason: str) -> None:
        """Keep a destination's queue, but attempt nothing."""
        self._ask(wire.Pause(destination, reason), None)

    def resume(self, destination: str) -> bool:
        """End a pause, in every server; say whether there was one."""
        return any([client.ask(wire.Resume(destination), bool) for client in self._clients])


@contextmanager
def servers(directory: str) -> Iterator[list[ControlClient]]:
    """Give a connection to each server that has the spool open."""
    with ExitStack() as stack:
        yield [stack.enter_context(client) for client in connect(directory)]


@contextmanager
def queue_of(arguments: Namespace) -> Iterator[Queue]:
    """Give the queue that a command is about.

    :raises CommandError: there is none, or a server has it that does not answer.
    """
    directory = directory_of(arguments)
    with servers(directory) as clients:
        if clients:
            yield ServedQueue(clients)
            return
    if not os.path.isdir(directory):
        raise CommandError(
            f"{directory}: there is no spool; name it with --spool DIRECTORY or --config FILE"
        )
    # Only here: a running server needs no database of this process.
    from mailsvc.cli.unserved import unserved_queue

    with unserved_queue(directory) as queue:
        yield queue
