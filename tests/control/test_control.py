from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailsvc.control import protocol as wire
from mailsvc.control.answers import Answers
from mailsvc.control.client import ControlError, connect
from mailsvc.control.server import Control, ControlConnection, ControlFactory
from mailsvc.events import Alert, Notice, Paused, Resumed
from mailsvc.spool.view import MessageDetail, QueueEntry, QueueSummary
from mailsvc.units import Size
from tests.control.fakes import MESSAGE, Server, entry


class ConnectionTestCase(SynchronousTestCase):
    """One connection of an operator's command, without a socket."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.server = Server(
            self.clock, "unused", entry(1), entry(2, "dead"), entry(3, "dead", "gone")
        )
        self.factory = ControlFactory(Answers(self.server), self.clock, self.server.machine.emit)
        self.connection = self.connect()
        self.transport = self.connection.transport

    def connect(self) -> ControlConnection:
        connection = self.factory.buildProtocol(None)
        assert connection is not None
        connection.makeConnection(StringTransport())
        return connection

    def said(self) -> list[Any]:
        transport = self.transport
        assert isinstance(transport, StringTransport)
        lines = transport.value().splitlines()
        transport.clear()
        return [msgspec.json.decode(line) for line in lines]

    def ask(self, request: wire.Request | bytes) -> Any:  # noqa: ANN401
        line = request if isinstance(request, bytes) else msgspec.json.encode(request)
        self.connection.dataReceived(line + b"\n")
        (reply,) = self.said()
        return reply

    def result(self, request: wire.Request) -> Any:  # noqa: ANN401
        reply = self.ask(request)
        self.assertNotIn("error", reply)
        return reply.get("result")


class AnswersTests(ConnectionTestCase):
    def test_summary(self) -> None:
        report = msgspec.convert(self.result(wire.AskSummary()), wire.QueueReport)
        self.assertEqual(
            [each.destination for each in report.summary.destinations], ["app", "gone"]
        )
        assert report.destinations is not None
        self.assertEqual(report.destinations["app"].failures, 12)
        self.assertEqual(report.destinations["app"].open_until, 1_000_000_060.0)

    def test_entries(self) -> None:
        found = self.result(wire.AskEntries(state="dead", destination="gone", after=f"{MESSAGE}-1"))
        self.assertEqual(
            msgspec.convert(found, tuple[QueueEntry, ...]), (entry(3, "dead", "gone"),)
        )

    def test_a_page_is_bounded(self) -> None:
        self.result(wire.AskEntries(limit=10**9))
        self.result(wire.AskEntries(limit=-1))
        self.assertEqual([call[3] for call in self.server.spool.calls], [wire.PAGE, 1])

    def test_message(self) -> None:
        detail = msgspec.convert(self.result(wire.AskMessage(f"{MESSAGE}-2")), MessageDetail)
        self.assertEqual(detail.envelope.id, MESSAGE)
        self.assertEqual(len(detail.entries), 3)
        self.assertIsNone(self.result(wire.AskMessage("no")))

    def test_retry_wakes_the_dispatcher(self) -> None:
        self.assertEqual(self.result(wire.Retry((f"{MESSAGE}-2", "x"), fresh_id=True)), 1)
        self.assertEqual(self.server.spool.calls[-1], ("retry", 1, True))
        self.assertEqual(self.server.dispatcher.woken, ["app", "archive"])
        self.assertEqual(self.server.machine.events, [Notice("1 delivery made due by an operator")])

    def test_what_changes_nothing_is_not_logged(self) -> None:
        self.assertEqual(self.result(wire.Retry(("x",))), 0)
        self.assertEqual(self.server.machine.events, [])

    def test_hasten(self) -> None:
        self.result(wire.Hasten(("app", "gone")))
        self.assertEqual(self.server.dispatcher.resumed, ["app", "gone"])

    def test_drop(self) -> None:
        self.assertEqual(self.result(wire.Drop((MESSAGE,))), 3)
        self.assertEqual(self.server.spool.rows, {})
        self.assertEqual(
            self.server.machine.events, [Notice("3 deliveries dropped by an operator")]
        )

    def test_pause_and_resume(self) -> None:
        self.result(wire.Pause("app", "holiday"))
        self.assertEqual(self.server.spool.paused, {"app": "holiday"})
        self.assertTrue(self.result(wire.Resume("app")))
        self.assertFalse(self.result(wire.Resume("app")))
        self.assertEqual(self.server.dispatcher.resumed, ["app", "app"])
        self.assertEqual(self.server.machine.events, [Paused("app", "holiday"), Resumed("app")])

    def test_unknown_destinations(self) -> None:
        for request in (wire.Pause("ap", "x"), wire.Resume("ap")):
            error = self.ask(request)["error"]
            self.assertEqual(error, "there is no destination 'ap'; there are: app, archive")
        self.server.dispatcher.known = {}
        self.assertIn("there are: none", self.ask(wire.Resume("ap"))["error"])

    def test_a_pause_of_a_destination_that_is_gone_can_be_ended(self) -> None:
        self.server.spool.paused["gone"] = "410"
        self.assertTrue(self.result(wire.Resume("gone")))

    def test_explain(self) -> None:
        report = msgspec.convert(self.result(wire.Explain("a@example.com")), wire.RouteReport)
        self.assertTrue(report.accepted)
        self.assertEqual(report.destinations, ("app", "archive"))
        for address in ("a@elsewhere.example", "not an address"):
            report = msgspec.convert(self.result(wire.Explain(address)), wire.RouteReport)
            self.assertFalse(report.accepted)
            self.assertTrue(report.lines)

    def test_listeners(self) -> None:
        found = msgspec.convert(self.result(wire.AskListeners()), tuple[wire.ListenerReport, ...])
        self.assertEqual(found[0], wire.ListenerReport("127.0.0.1:25", "mx", "none", False))
        self.assertEqual(
            found[1], wire.ListenerReport("0.0.0.0:465", "submission", "implicit", False)
        )

    def test_reload(self) -> None:
        self.assertEqual(self.result(wire.Reload()), [])
        self.server.problems = ("a:1: bad", "a:2: worse")
        self.assertEqual(self.result(wire.Reload()), ["a:1: bad", "a:2: worse"])
        self.server.problems = ("io",)
        self.assertEqual(self.ask(wire.Reload())["error"], "io")

    def test_every_request_has_an_answer(self) -> None:
        asked = wire.Ask.__args__
        self.assertEqual(set(Answers(self.server)._table), set(asked))


class ConnectionTests(ConnectionTestCase):
    def test_what_is_not_understood_is_said(self) -> None:
        for line in (
            b"",
            b"{",
            b"[]",
            b'{"ask": "shutdown"}',
            b'{"ask": "show", "id": 1}',
            b'{"ask": "show", "id": "1", "x": 1}',
            b"\xff",
        ):
            self.assertIn("the request is not understood", self.ask(line)["error"])
        self.assertIsNotNone(self.result(wire.AskSummary()))

    def test_pieces_and_pipelines(self) -> None:
        one = msgspec.json.encode(wire.AskMessage("x")) + b"\n"
        for octet in one:
            self.connection.dataReceived(bytes([octet]))
        self.assertEqual(len(self.said()), 1)
        self.connection.dataReceived(one * 3 + one[:5])
        self.assertEqual(len(self.said()), 3)
        self.connection.dataReceived(one[5:])
        self.assertEqual(len(self.said()), 1)

    def test_one_request_at_a_time(self) -> None:
        waiting: Deferred[object] = Deferred()

        async def answer(request: wire.Request) -> object:
            return await waiting

        self.factory.answers.answer = answer  # type: ignore[method-assign]
        transport = self.transport
        assert isinstance(transport, StringTransport)
        one = msgspec.json.encode(wire.AskMessage("x")) + b"\n"
        self.connection.dataReceived(one + one)
        self.connection.dataReceived(one)
        self.assertEqual(transport.producerState, "paused")
        self.assertEqual(self.said(), [])
        waiting.callback(7)
        self.assertEqual(transport.producerState, "producing")
        self.assertEqual(len(self.said()), 3)

    def test_a_peer_that_left_gets_nothing(self) -> None:
        waiting: Deferred[object] = Deferred()

        async def answer(request: wire.Request) -> object:
            return await waiting

        self.factory.answers.answer = answer  # type: ignore[method-assign]
        self.connection.dataReceived(msgspec.json.encode(wire.AskSummary()) + b"\n")
        self.connection.connectionLost()
        waiting.callback(7)
        self.assertEqual(self.said(), [])
        self.assertEqual(self.factory.connections, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_request_that_never_ends_is_refused(self) -> None:
        self.connection.dataReceived(b"x" * (wire.LONGEST_REQUEST + 1))
        self.assertEqual(self.said(), [{"error": "the request is too long"}])
        transport = self.transport
        assert isinstance(transport, StringTransport)
        self.assertTrue(transport.disconnecting)

    def test_a_fault_of_ours_is_told_and_logged(self) -> None:
        self.server.spool.broken = ZeroDivisionError("oops")
        self.assertEqual(self.ask(wire.AskSummary())["error"], "ZeroDivisionError: oops")
        (event,) = self.server.machine.events
        self.assertEqual(event, Alert("an operator's request failed: ZeroDivisionError: oops"))

    def test_values_of_the_configuration_are_told_as_plain_numbers(self) -> None:
        async def summary() -> QueueSummary:
            return QueueSummary((), 0, Size(7), Size(9))

        self.server.spool.summary = summary  # type: ignore[method-assign]
        report = msgspec.convert(self.result(wire.AskSummary()), wire.QueueReport)
        self.assertEqual((report.summary.octets, report.summary.limit), (7, 9))

    def test_a_result_that_cannot_be_told_is_an_error(self) -> None:
        async def answer(request: wire.Request) -> object:
            return object()

        self.factory.answers.answer = answer  # type: ignore[method-assign]
        self.assertIn("object is no value", self.ask(wire.AskSummary())["error"])
        self.assertEqual(len(self.server.machine.events), 1)

    def test_idle_connections_end(self) -> None:
        transport = self.transport
        assert isinstance(transport, StringTransport)
        self.clock.advance(299)
        self.result(wire.AskSummary())
        self.clock.advance(299)
        self.assertFalse(transport.disconnecting)
        self.clock.advance(1)
        self.assertTrue(transport.disconnecting)

    def test_so_many_and_no_more(self) -> None:
        for _ in range(31):
            self.connect()
        self.assertIsNone(self.factory.buildProtocol(None))


class SocketTests(TestCase):
    """The real socket, asked by the real client from another thread."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)

    async def serve(self, directory: str = "") -> Server:
        server = Server(reactor, directory or self.directory, entry(1))
        control = Control(server)
        await control.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(control.stop()))
        return server

    def ask(self, directory: str = "") -> list[int]:
        counts = []
        for client in connect(directory or self.directory):
            with client:
                report = client.ask(wire.AskSummary(), wire.QueueReport)
                counts.append(report.summary.messages)
        return counts

    async def test_an_operator_is_answered(self) -> None:
        await self.serve()
        self.assertEqual(await deferToThread(self.ask), [3])

    async def test_it_is_for_its_owner_only(self) -> None:
        await self.serve()
        (name,) = wire.socket_names(self.directory)
        mode = os.stat(os.path.join(self.directory, name)).st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        self.assertEqual(os.listdir(self.directory), [name])

    async def test_several_processes_share_a_spool(self) -> None:
        await self.serve()
        await self.serve()
        self.assertEqual(await deferToThread(self.ask), [3, 3])

    async def test_a_path_that_no_socket_address_can_hold(self) -> None:
        directory = os.path.join(self.directory, "d" * 120, "e" * 120)
        os.makedirs(directory)
        await self.serve(directory)
        self.assertEqual(await deferToThread(self.ask, directory), [3])

    async def test_sockets_of_the_dead_are_swept_and_others_kept(self) -> None:
        await self.serve()
        (alive,) = wire.socket_names(self.directory)
        dead = socket.socket(socket.AF_UNIX)
        with wire.address_of(self.directory, "control-1-aa.sock") as address:
            dead.bind(address)
        dead.close()
        with open(os.path.join(self.directory, "control-notes.txt"), "w") as file:
            file.write("mine")
        self.assertEqual(await deferToThread(self.ask), [3])
        await self.serve()
        names = wire.socket_names(self.directory)
        self.assertIn(alive, names)
        self.assertEqual(len(names), 2)
        self.assertNotIn("control-1-aa.sock", names)
        self.assertTrue(os.path.exists(os.path.join(self.directory, "control-notes.txt")))

    async def test_stop_removes_the_socket_and_ends_connections(self) -> None:
        server = Server(reactor, self.directory)
        control = Control(server)
        await control.stop()
        await control.start()
        (client,) = await deferToThread(connect, self.directory)
        await deferToThread(client.ask, wire.AskListeners(), Any)
        await control.stop()
        await control.stop()
        self.assertEqual(os.listdir(self.directory), [])
        with self.assertRaises(ControlError) as caught:
            await deferToThread(client.ask, wire.AskListeners(), Any)
        self.assertTrue(str(caught.exception))
        client.__exit__()

    async def test_a_process_without_free_descriptors_waits_a_moment(self) -> None:
        server = Server(reactor, self.directory)
        control = Control(server)
        self.addCleanup(lambda: Deferred.fromCoroutine(control.stop()))
        await control.start()
        accept = socket.socket.accept
        refusals: list[int] = []

        def full(self: socket.socket) -> tuple[socket.socket, Any]:
            if not refusals:
                refusals.append(errno.EMFILE)
                raise OSError(errno.EMFILE, "too many open files")
            return accept(self)

        self.patch(socket.socket, "accept", full)
        (counts,) = await deferToThread(self.ask)
        self.assertEqual((counts, refusals), (3, [errno.EMFILE]))

    async def test_stop_while_it_waits_for_descriptors(self) -> None:
        control = Control(Server(reactor, self.directory))
        await control.start()
        refused: Deferred[None] = Deferred()

        def full(self: socket.socket) -> tuple[socket.socket, Any]:
            refused.callback(None)
            raise OSError(errno.EMFILE, "too many open files")

        self.patch(socket.socket, "accept", full)
        (client,) = await deferToThread(connect, self.directory)
        await refused
        await control.stop()
        client.__exit__()

    async def test_a_socket_that_cannot_be_made_leaves_nothing_open(self) -> None:
        def refuse(source: object, target: object) -> None:
            raise OSError(errno.EIO, "no")

        self.patch(os, "rename", refuse)
        control = Control(Server(reactor, self.directory))
        with self.assertRaises(OSError):
            await control.start()
        self.assertEqual(connect(self.directory), [])
        self.assertEqual(os.listdir(self.directory), [])

    async def test_stop_after_somebody_removed_the_socket(self) -> None:
        control = Control(Server(reactor, self.directory))
        await control.start()
        (name,) = os.listdir(self.directory)
        os.unlink(os.path.join(self.directory, name))
        await control.stop()

    async def test_a_directory_that_is_gone(self) -> None:
        control = Control(Server(reactor, os.path.join(self.directory, "absent")))
        with self.assertRaises(OSError):
            await control.start()
        self.assertEqual(connect(os.path.join(self.directory, "absent")), [])


class ClientTests(SynchronousTestCase):
    """A client against a server that behaves badly."""

    def answered(self, reply: bytes) -> str:
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        with socket.socket(socket.AF_UNIX) as listening:
            with wire.address_of(directory, "control-1-a.sock") as address:
                listening.bind(address)
            listening.listen(1)
            (client,) = connect(directory)
            with client:
                peer, _ = listening.accept()
                peer.sendall(reply)
                peer.shutdown(socket.SHUT_WR)
                with peer, self.assertRaises(ControlError) as caught:
                    client.ask(wire.AskSummary(), wire.QueueReport)
        return str(caught.exception)

    def test_an_error(self) -> None:
        self.assertEqual(self.answered(b'{"error": "no"}\n'), "no")

    def test_half_an_answer(self) -> None:
        self.assertIn("the server", self.answered(b'{"result'))

    def test_another_protocol(self) -> None:
        self.assertIn("not understood", self.answered(b'{"result": {"x": 1}}\n'))

    def test_no_permission_is_said(self) -> None:
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        with open(os.path.join(directory, "control-1-a.sock"), "w"):
            pass

        def refuse(self: socket.socket, address: object) -> None:
            raise PermissionError(errno.EACCES, "no")

        class Refusing(socket.socket):
            connect = refuse

        self.patch(socket, "socket", Refusing)
        with self.assertRaises(ControlError) as caught:
            connect(directory)
        self.assertIn("permission denied", str(caught.exception))
