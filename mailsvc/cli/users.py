"""``mailsvc passwd``: the password file of a configuration."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from mailsvc.cli.places import configuration_of
from mailsvc.cli.screen import OK, PROBLEM, CommandError, Screen
from mailsvc.wording import printable


def add_commands(add: Callable[..., ArgumentParser]) -> None:
    """Add the commands of this module."""
    made = add("passwd", change, "change who may log in; passwords are asked for, never arguments")
    made.add_argument("action", choices=("add", "remove", "list"))
    made.add_argument("user", nargs="?", metavar="USER")


def change(arguments: Namespace, screen: Screen) -> int:
    """``mailsvc passwd``."""
    if not arguments.config:
        arguments.fail("the following arguments are required: --config FILE")
    if (arguments.user is None) != (arguments.action == "list"):
        arguments.fail(
            "list takes no USER" if arguments.user else f"{arguments.action} needs a USER"
        )
    path, iterations = _users_of(arguments.config)
    from mailsvc import passwords

    if arguments.action == "list":
        names = passwords.users(path) if os.path.exists(path) else ()
        screen.value(names)
        for name in names:
            screen.line(printable(name))
        return OK
    user = printable(arguments.user)
    if arguments.action == "remove":
        if not passwords.remove(path, arguments.user):
            screen.complain(f"{path} has no user {user}")
            return PROBLEM
        done = "removed"
    else:
        name = passwords.check_name(arguments.user)
        password = screen.password(name)
        new = (
            passwords.add(path, name, password)
            if iterations is None
            else passwords.add(path, name, password, iterations)
        )
        done = "added" if new else "has a new password"
    screen.value({"user": arguments.user, "file": path, "done": done})
    screen.line(f"{path}: {user} {done}")
    return OK


def _users_of(config: str) -> tuple[str, int | None]:
    """Return the password file that a configuration names, and its iterations, if any."""
    auth = configuration_of(config).get("auth")
    path = auth.get("users") if isinstance(auth, dict) else None
    if not isinstance(path, str) or not path:
        raise CommandError(f'{config}: there is no password file; write [auth] users = "FILE"')
    iterations = auth.get("iterations") if isinstance(auth, dict) else None
    return path, iterations if isinstance(iterations, int) else None
