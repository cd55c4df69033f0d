"""What only a look at the machine can tell about settings: files, directories, checkers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from mailsvc import certificates, passwords, secretfile
from mailsvc.checkers import make_checker
from mailsvc.errors import ConfigError
from mailsvc.settings import Destination, Settings
from mailsvc.vetting import endpoint_parts

#: Options that name a file of secrets, which only its owner may read.
_SECRETS = frozenset({"secret_file", "password_file"})


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found, each a whole line with its place.

    :ivar problems: the service cannot start, or not do its work.
    :ivar warnings: it can, but somebody should look.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check(settings: Settings, now: Callable[[], float] = time.time) -> Findings:
    """Look at everything that the settings name; blocking, and nothing is written.

    :param now: seconds since the epoch, to judge certificates by.
    """
    problems = [
        settings.problem(section, key, text)
        for part in (unavailable, _spool, _users, _sockets, _files)
        for section, key, text in part(settings)
    ]
    warnings = list(settings.warnings)
    if settings.tls.certificates:
        try:
            store = certificates.load(
                settings.tls.certificates, settings.hostname, settings.tls.client_ca
            )
        except ConfigError as error:
            problems += [settings.problem("tls", "certificates", text) for text in error.problems]
        else:
            warnings += [
                settings.problem("tls", "certificates", text) for text in store.warnings(now())
            ]
    return Findings(tuple(problems), tuple(warnings))


_Fault = tuple[str, str, str]

_NOT_YET = "is not available in this version of mailsvc"


def unavailable(settings: Settings) -> Iterator[_Fault]:
    """Yield the keys that are understood but that nothing follows yet, where they are set."""
    for index, listener in enumerate(settings.listeners):
        if listener.proxy:
            yield f"listener.{index}", "proxy", _NOT_YET
    for index, route in enumerate(settings.routes):
        if route.mode == "sync":
            yield f"route.{index}", "mode", f'"sync" {_NOT_YET}'
        if route.check_url:
            yield f"route.{index}", "check_url", _NOT_YET
    if settings.notifications.deliver:
        yield "notifications", "deliver", _NOT_YET


def _spool(settings: Settings) -> Iterator[_Fault]:
    """The directory is made at the start if its parent can be written to."""
    path = os.path.abspath(settings.spool)
    if os.path.exists(path):
        if not os.path.isdir(path):
            yield "", "spool", f"{settings.spool} is not a directory"
        elif not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            yield "", "spool", f"{settings.spool} cannot be written to"
        return
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
        yield "", "spool", f"{settings.spool} cannot be made: {parent} cannot be written to"


def _users(settings: Settings) -> Iterator[_Fault]:
    if settings.auth.users:
        try:
            passwords.read(settings.auth.users)
        except ConfigError as error:
            text = "; ".join(error.problems)
            if not os.path.exists(settings.auth.users):
                text += "; `mailsvc passwd --config FILE add USER` makes it"
            yield "auth", "users", text
    for description in settings.auth.checkers:
        try:
            make_checker(description)
        except ConfigError as error:
            yield "auth", "checkers", str(error)


def _sockets(settings: Settings) -> Iterator[_Fault]:
    for index, listener in enumerate(settings.listeners):
        words, keys = endpoint_parts(listener.endpoint)
        if words[0] == "unix":
            path = keys.get("address", words[1] if len(words) > 1 else "")
            directory = os.path.dirname(os.path.abspath(path))
            if not os.access(directory, os.W_OK | os.X_OK):
                yield f"listener.{index}", "endpoint", f"{directory} cannot be written to"


def _files(settings: Settings) -> Iterator[_Fault]:
    for name, destination in settings.destinations.items():
        for key, path in _named_files(destination):
            try:
                if key in _SECRETS:
                    secretfile.load(secretfile.SecretSource(file=path))
                else:
                    with open(path, "rb") as file:
                        file.read(1)
            except ConfigError as error:
                yield f"destination.{name}", key, str(error)
            except OSError as error:
                yield f"destination.{name}", key, f"{path} cannot be read: {error.strerror}"


def _named_files(destination: Destination) -> Iterator[tuple[str, str]]:
    """Yield the options, of any kind, that name a file: those whose key ends in ``_file``."""
    for field in msgspec.structs.fields(destination.options):
        value = getattr(destination.options, field.name)
        if field.encode_name.endswith("_file") and isinstance(value, str) and value:
            yield field.encode_name, value
