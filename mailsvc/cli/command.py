"""The command line: which commands there are, and how they end."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.machinery import ExtensionFileLoader
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from mailsvc.cli import changes, configuration, queue, sendtest, users
from mailsvc.cli.places import DEFAULT_SPOOL
from mailsvc.cli.screen import PROBLEM, CommandError, Screen, standard_screen
from mailsvc.errors import MailsvcError
from mailsvc.wording import printable

#: What each command does: its arguments and the screen to its exit code.
Run = Callable[[Namespace, Screen], int]

_EPILOG = (
    "Exit codes: 0 done; 1 a problem was found, or nothing matched; 2 the command line is wrong."
)


def compiled(module: str = "mailsvc.smtp.session") -> bool:
    """Return whether a module is an extension; all that ``setup.py`` compiles are, or none is."""
    spec = find_spec(module)
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)


def parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    common = ArgumentParser(add_help=False)
    group = common.add_argument_group("which service")
    group.add_argument("--config", metavar="FILE", help="the configuration file of the service")
    group.add_argument(
        "--spool", metavar="DIR", help=f"its spool, without a file (default: {DEFAULT_SPOOL})"
    )
    common.add_argument("--json", action="store_true", help="print JSON, for programs")
    whole = ArgumentParser(
        prog="mailsvc",
        description="Look after a mailsvc service. The service itself is run by: twistd mailsvc",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    how = "compiled" if compiled() else "not compiled"
    text = f"mailsvc {version('mailsvc')}, {how}"
    whole.add_argument("--version", action="version", version=text)
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Run, summary: str, **options: Any) -> ArgumentParser:  # noqa: ANN401
        made = commands.add_parser(
            name,
            parents=[common],
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=_EPILOG,
            allow_abbrev=False,
            **options,
        )
        made.set_defaults(run=run, fail=made.error)
        return made

    for module in (configuration, sendtest, queue, changes, users):
        module.add_commands(add)
    return whole


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.  Nothing ends in a traceback."""
    arguments = parser().parse_args(words)
    screen = standard_screen(as_json=arguments.json)
    try:
        status: int = arguments.run(arguments, screen)
        sys.stdout.flush()
    except CommandError as error:
        return _complain(screen, str(error), error.status)
    except MailsvcError as error:
        return _complain(screen, str(error), PROBLEM)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python is not to complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PROBLEM
    except Exception as error:
        return _complain(screen, f"{type(error).__name__}: {error}", PROBLEM)
    return status


def _complain(screen: Screen, text: str, status: int) -> int:
    for line in text.splitlines() or [""]:
        screen.complain(printable(line, 2000))
    return status
