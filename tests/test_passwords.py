from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailsvc import passwords
from mailsvc.errors import ConfigError
from mailsvc.passwords import PasswordFile
from mailsvc.smtp.scram import Verifier

FEW = 4096


class Base(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = str(self.directory / "users")

    def text(self) -> str:
        return Path(self.path).read_text(encoding="utf-8")

    def write(self, text: str) -> None:
        Path(self.path).write_text(text, encoding="utf-8")


class ChangeTests(Base):
    def test_add_makes_the_file(self) -> None:
        """Requirement 34: what is stored is a verifier, for nobody else to read."""
        self.assertTrue(passwords.add(self.path, "tim", "pencil", FEW))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertTrue(self.text().startswith("tim:SCRAM-SHA-256$4096:"))
        self.assertNotIn("pencil", self.text())
        self.assertTrue(passwords.read(self.path)["tim"].check("pencil"))

    def test_add_again_changes_the_password(self) -> None:
        passwords.add(self.path, "tim", "pencil", FEW)
        passwords.add(self.path, "ann", "paper", FEW)
        self.assertFalse(passwords.add(self.path, "tim", "pen", FEW))
        verifiers = passwords.read(self.path)
        self.assertEqual(list(verifiers), ["tim", "ann"])
        self.assertTrue(verifiers["tim"].check("pen"))
        self.assertTrue(verifiers["ann"].check("paper"))

    def test_users(self) -> None:
        passwords.add(self.path, "tim@example.com", "pencil", FEW)
        passwords.add(self.path, "Ann", "pencil", FEW)
        self.assertEqual(passwords.users(self.path), ("Ann", "tim@example.com"))

    def test_remove(self) -> None:
        passwords.add(self.path, "tim", "pencil", FEW)
        passwords.add(self.path, "timothy", "pencil", FEW)
        self.assertTrue(passwords.remove(self.path, "tim"))
        self.assertFalse(passwords.remove(self.path, "tim"))
        self.assertEqual(passwords.users(self.path), ("timothy",))
        passwords.remove(self.path, "timothy")
        self.assertEqual(self.text(), "")
        passwords.add(self.path, "tim", "pencil", FEW)
        self.assertEqual(passwords.users(self.path), ("tim",))

    def test_comments_stay(self) -> None:
        line = f"tim:{Verifier.make('pencil', FEW).encode()}"
        self.write(f"# ours\n\n{line}")
        passwords.add(self.path, "ann", "pencil", FEW)
        self.assertTrue(self.text().startswith(f"# ours\n\n{line}\nann:"))
        passwords.remove(self.path, "ann")
        self.assertEqual(self.text(), f"# ours\n\n{line}\n")

    def test_names_are_prepared(self) -> None:
        passwords.add(self.path, "\u2168", "pencil", FEW)
        self.assertEqual(passwords.users(self.path), ("IX",))
        self.assertTrue(passwords.remove(self.path, "I\u00adX"))

    def test_bad_names(self) -> None:
        for name in ("", "a:b", "#a", " a", "a\n", "a\x07", "a" * 256, "\u00ad"):
            self.assertRaises(ConfigError, passwords.add, self.path, name, "pencil", FEW)
        self.assertFalse(os.path.exists(self.path))

    def test_bad_passwords(self) -> None:
        for password in ("", "a\x07b"):
            wrong = self.assertRaises(ConfigError, passwords.add, self.path, "a", password, FEW)
            self.assertNotIn("\x07", str(wrong))

    def test_mode_and_links_are_kept(self) -> None:
        passwords.add(self.path, "tim", "pencil", FEW)
        os.chmod(self.path, 0o644)
        link = str(self.directory / "link")
        os.symlink("users", link)
        passwords.add(link, "ann", "pencil", FEW)
        self.assertTrue(os.path.islink(link))
        self.assertEqual(passwords.users(self.path), ("ann", "tim"))
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o640)

    def test_owner_is_kept_when_root_writes(self) -> None:
        """The service's user is to read what ``sudo mailsvc passwd`` wrote."""
        given: list[tuple[int, int]] = []
        status = os.stat(self.directory)
        with (
            mock.patch.object(os, "geteuid", lambda: 0),
            mock.patch.object(
                os, "fchown", lambda handle, user, group: given.append((user, group))
            ),
        ):
            passwords.add(self.path, "tim", "pencil", FEW)
        self.assertEqual(given, [(status.st_uid, status.st_gid)])

    def test_a_failed_write_leaves_the_old_file(self) -> None:
        passwords.add(self.path, "tim", "pencil", FEW)
        before = self.text()

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        with mock.patch.object(os, "fsync", full):
            wrong = self.assertRaises(ConfigError, passwords.add, self.path, "ann", "pencil", FEW)
        self.assertIn("No space left on device", str(wrong))
        self.assertEqual(self.text(), before)
        self.assertEqual(os.listdir(self.directory), ["users"])

    def test_synced_before_it_is_named(self) -> None:
        """The new file and then its name reach the disk, in this order."""
        calls: list[str] = []
        fsync, rename = os.fsync, os.rename

        def noted_fsync(handle: int) -> None:
            calls.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
            fsync(handle)

        def noted_rename(old: str, new: str) -> None:
            calls.append("rename")
            rename(old, new)

        with mock.patch.object(os, "fsync", noted_fsync):
            with mock.patch.object(os, "rename", noted_rename):
                passwords.add(self.path, "tim", "pencil", FEW)
        self.assertEqual(calls, ["file", "rename", "directory"])

    def test_no_directory(self) -> None:
        missing = str(self.directory / "missing" / "users")
        wrong = self.assertRaises(ConfigError, passwords.add, missing, "tim", "pencil", FEW)
        self.assertIn("missing: No such file or directory", str(wrong))

    def test_side_by_side(self) -> None:
        """Two that change the file at the same time lose nothing."""
        threads = [
            threading.Thread(target=passwords.add, args=(self.path, f"user{n}", "pencil", FEW))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(passwords.users(self.path)), 8)


class ReadTests(Base):
    def test_every_wrong_line_is_named(self) -> None:
        good = Verifier.make("pencil", FEW).encode()
        self.write(f"tim:{good}\ntim:{good}\nann\n:{good}\n# no\nbob:hunter2\n")
        wrong = self.assertRaises(ConfigError, passwords.read, self.path)
        self.assertEqual(
            [problem.rpartition(f"{self.path}:")[2][:2] for problem in wrong.problems],
            ["2:", "3:", "4:", "6:"],
        )
        self.assertNotIn("hunter2", str(wrong))

    def test_names_that_saslprep_would_change(self) -> None:
        self.write(f"\u2168:{Verifier.make('pencil', FEW).encode()}\n")
        self.assertRaises(ConfigError, passwords.read, self.path)

    def test_cannot_be_read(self) -> None:
        wrong = self.assertRaises(ConfigError, passwords.read, self.path)
        self.assertEqual(str(wrong), f"{self.path}: No such file or directory")
        Path(self.path).write_bytes(b"\xff")
        wrong = self.assertRaises(ConfigError, passwords.read, self.path)
        self.assertEqual(str(wrong), f"{self.path}: is not UTF-8")


class PasswordFileTests(Base):
    def setUp(self) -> None:
        super().setUp()
        passwords.add(self.path, "tim", "pencil", FEW)
        self.file = PasswordFile(self.path, b"secret")

    def test_known_user(self) -> None:
        verifier, known = self.file.verifier("tim")
        self.assertTrue(known)
        self.assertTrue(verifier.check("pencil"))

    def test_unknown_user_looks_like_a_known_one(self) -> None:
        """Requirement 32: salt and iterations of nobody are as somebody's, every time."""
        first, known = self.file.verifier("nobody")
        self.assertFalse(known)
        self.assertEqual(first, PasswordFile(self.path, b"secret").verifier("nobody")[0])
        real, _ = self.file.verifier("tim")
        self.assertEqual(len(first.salt), len(real.salt))
        self.assertEqual(first.iterations, real.iterations)
        self.assertNotEqual(first.salt, self.file.verifier("somebody")[0].salt)
        self.assertNotEqual(first, PasswordFile(self.path, b"other").verifier("nobody")[0])
        self.assertFalse(first.check("pencil"))

    def test_iterations_of_nobody_are_drawn_from_the_file(self) -> None:
        passwords.add(self.path, "ann", "pencil", FEW + 1)
        self.assertEqual(self.file.refresh(), "")
        counts = {self.file.verifier(f"nobody{n}")[0].iterations for n in range(64)}
        self.assertEqual(counts, {FEW, FEW + 1})

    def test_an_empty_file(self) -> None:
        passwords.remove(self.path, "tim")
        file = PasswordFile(self.path, b"secret", 5000)
        self.assertEqual(file.verifier("nobody")[0].iterations, 5000)

    def test_changes_are_seen(self) -> None:
        self.assertEqual(self.file.refresh(), "")
        passwords.add(self.path, "ann", "pencil", FEW)
        self.assertFalse(self.file.verifier("ann")[1])
        self.assertEqual(self.file.refresh(), "")
        self.assertTrue(self.file.verifier("ann")[1])

    def test_a_bad_change_is_told_once_and_keeps_the_users(self) -> None:
        self.write("nonsense\n")
        self.assertIn(f"{self.path}:1:", self.file.refresh())
        self.assertEqual(self.file.refresh(), "")
        self.assertTrue(self.file.verifier("tim")[1])
        os.unlink(self.path)
        self.assertIn("No such file", self.file.refresh())
        self.assertTrue(self.file.verifier("tim")[1])

    def test_no_file(self) -> None:
        self.assertRaises(ConfigError, PasswordFile, self.path + "x", b"secret")
