"""Requirement 52: secrets are redacted everywhere, and their files are for their owner only."""

from __future__ import annotations

import base64
import errno
import os
import pickle
import stat
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsvc.errors import ConfigError
from mailsvc.secretfile import Loaded, Secret, SecretSource, load, make_secret


class SecretTests(SynchronousTestCase):
    def test_it_shows_itself_to_nobody(self) -> None:
        secret = Secret("hunter2")
        for text in (
            repr(secret),
            str(secret),
            f"{secret}",
            f"{[secret]!r}",
            f"{Loaded((secret,))}",
        ):
            self.assertNotIn("hunter2", text)
            self.assertIn("redacted", text)
        self.assertRaises(TypeError, pickle.dumps, secret)
        self.assertFalse(hasattr(secret, "__dict__"))

    def test_it_is_revealed_on_request(self) -> None:
        self.assertEqual(Secret("hunter2").reveal(), "hunter2")

    def test_equality(self) -> None:
        self.assertEqual(Secret("ä"), Secret("ä"))
        self.assertNotEqual(Secret("a"), Secret("b"))
        self.assertNotEqual(Secret("a"), "a")
        self.assertEqual(len({Secret("a"), Secret("a"), Secret("b")}), 2)


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()

    def write(self, octets: bytes, mode: int = 0o600) -> SecretSource:
        self.path.write_bytes(octets)
        self.path.chmod(mode)
        return SecretSource(file=str(self.path))

    def refused(self, source: SecretSource, environment: dict[str, str] | None = None) -> str:
        error = self.assertRaises(ConfigError, load, source, environment or {})
        return str(error)

    def test_a_file_of_one(self) -> None:
        self.assertEqual(load(self.write(b"one\n")), Loaded((Secret("one"),)))

    def test_several_are_in_force_in_order(self) -> None:
        source = self.write(b"# since May\nnew\n\n  old \r\n")
        self.assertEqual(load(source).secrets, (Secret("new"), Secret("old")))

    def test_others_may_not_use_it(self) -> None:
        for mode in (0o604, 0o602, 0o601, 0o666):
            self.assertIn("every user may use", self.refused(self.write(b"one", mode)))

    def test_the_group_is_worth_a_warning(self) -> None:
        loaded = load(self.write(b"one", 0o640))
        self.assertEqual(loaded.secrets, (Secret("one"),))
        self.assertIn(f"(mode 0640): chmod 600 {self.path}", loaded.warnings[0])

    def test_files_that_cannot_be_used(self) -> None:
        self.assertIn("cannot be read: No such file", self.refused(SecretSource(file="/none/such")))
        self.assertIn("holds no secret", self.refused(self.write(b"\n# only this\n")))
        self.assertIn("is not text", self.refused(self.write(b"\xff\xfe")))
        self.assertIn("is too long", self.refused(self.write(b"x" * 65_537)))

    def test_no_error_tells_the_secret(self) -> None:
        for octets, mode in (
            (b"hunter2\xff", 0o600),
            (b"hunter2" * 10_000, 0o600),
            (b"hunter2", 0o644),
        ):
            self.assertNotIn("hunter2", self.refused(self.write(octets, mode)))

    def test_an_environment_variable(self) -> None:
        source = SecretSource(variable="APP_SECRET")
        self.assertEqual(load(source, {"APP_SECRET": "a\nb"}).secrets, (Secret("a"), Secret("b")))
        self.assertIn("the environment variable of this name is not set", self.refused(source))
        self.assertIn("APP_SECRET holds no secret", self.refused(source, {"APP_SECRET": " "}))

    def test_a_systemd_credential(self) -> None:
        self.write(b"one\n", 0o440)
        environment = {"CREDENTIALS_DIRECTORY": str(self.path.parent)}
        loaded = load(SecretSource(credential=self.path.name), environment)
        self.assertEqual(loaded, Loaded((Secret("one"),)))

    def test_credentials_that_cannot_be_used(self) -> None:
        source = SecretSource(credential="app")
        self.assertIn("systemd passed no credential", self.refused(source))
        environment = {"CREDENTIALS_DIRECTORY": str(self.path.parent)}
        self.assertIn("cannot be read", self.refused(SecretSource(credential="none"), environment))
        for name in ("../secret", "..", ".", "/etc/shadow"):
            self.assertIn("is no name", self.refused(SecretSource(credential=name), environment))


class MakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()

    def test_a_new_secret(self) -> None:
        before = os.umask(0)
        try:
            secret = make_secret(str(self.path))
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(self.path.read_text("ascii"), secret.reveal() + "\n")
        self.assertTrue(secret.reveal().startswith("whsec_"))
        self.assertEqual(len(base64.b64decode(secret.reveal()[6:], validate=True)), 32)
        self.assertEqual(load(SecretSource(file=str(self.path))).secrets, (secret,))

    def test_the_one_that_is_there_stays(self) -> None:
        secret = make_secret(str(self.path))
        self.assertEqual(make_secret(str(self.path)), secret)
        self.assertEqual(os.listdir(self.path.parent).count(self.path.name), 1)

    def test_no_temporary_stays(self) -> None:
        self.path.mkdir()
        make_secret(f"{self.path}/app.secret")
        make_secret(f"{self.path}/app.secret")
        self.assertEqual(os.listdir(self.path), ["app.secret"])

    def test_a_relative_path(self) -> None:
        name = self.mktemp()
        self.assertEqual(make_secret(name), load(SecretSource(file=name)).secrets[0])

    def test_it_is_synced_before_it_has_its_name(self) -> None:
        calls: list[str] = []
        real_link, real_fsync = os.link, os.fsync

        def link(source: str, target: str) -> None:
            calls.append("link")
            real_link(source, target)

        def fsync(descriptor: int) -> None:
            directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            calls.append("sync directory" if directory else "sync file")
            real_fsync(descriptor)

        self.patch(os, "link", link)
        self.patch(os, "fsync", fsync)
        make_secret(str(self.path))
        self.assertEqual(calls, ["sync file", "link", "sync directory"])

    def test_a_directory_that_is_not_there(self) -> None:
        error = self.assertRaises(ConfigError, make_secret, f"{self.path}/none/app.secret")
        self.assertIn("no secret can be written to", str(error))

    def test_a_full_disk(self) -> None:
        self.path.mkdir()
        fault = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch.object(os, "fsync", side_effect=fault):
            error = self.assertRaises(ConfigError, make_secret, f"{self.path}/app.secret")
        self.assertIn("No space left on device", str(error))
        self.assertEqual(os.listdir(self.path), [])
