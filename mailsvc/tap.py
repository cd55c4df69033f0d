"""``twistd mailsvc``: its options, and the service that they ask for.

The only module that imports the reactor; all others are given it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import TextIO

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.python import usage

from mailsvc import config, quickstart, secretfile
from mailsvc.composition import compose
from mailsvc.deliverers.plugins import Installed, installed
from mailsvc.errors import ConfigError
from mailsvc.logs import JSONLines, TextLines, emit
from mailsvc.machine import machine_for
from mailsvc.service import MailService
from mailsvc.settings import DEFAULT_SPOOL, Settings
from mailsvc.turnend import TurnEnd

#: Signs the requests of ``--webhook``; made by the first start.
_SECRET = "webhook.secret"


class Options(usage.Options):
    """The options of ``twistd mailsvc``."""

    synopsis = "[--config FILE | --webhook URL | --maildir PATH]"
    longdesc = (
        "Without options: listens on 127.0.0.1:2525, accepts mail for any address, and files it in"
        " ./maildir.  A configuration file takes the place of all other options but --log-json."
    )
    optParameters = [
        ["config", "c", None, "The configuration file (TOML)."],
        ["webhook", "w", "", "Post each mail to this URL."],
        ["maildir", "m", "", "File each mail in this maildir (default: ./maildir)."],
        ["spool", "s", "", f"The spool directory (default: {DEFAULT_SPOOL})."],
        ["hostname", None, "", "The service's own name (default: localhost)."],
    ]
    optFlags = [["log-json", None, "Log JSON lines instead of text."]]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self["listen"] = []
        self["to"] = []
        self["auth"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this Twisted endpoint, such as tcp:2525; may be repeated."""
        self["listen"].append(endpoint)

    def opt_to(self, pattern: str) -> None:
        """Accept mail for this pattern only, such as *@example.com; may be repeated."""
        self["to"].append(pattern)

    def opt_auth(self, checker: str) -> None:
        """Ask senders who they are; a strcred description, such as memory:user:password."""
        self["auth"].append(checker)

    def postOptions(self) -> None:
        """Refuse what a configuration file says itself."""
        if self["config"] is not None:
            quick = ("webhook", "maildir", "spool", "hostname", "listen", "to", "auth")
            given = [f"--{name}" for name in quick if self[name]]
            if given:
                raise usage.UsageError(f"--config takes the place of {', '.join(given)}")


def makeService(options: Options) -> MailService:
    """Return the service; ends the process with a message if the configuration cannot work."""
    found = installed()
    load = _loader(options, found)
    turn_end = TurnEnd(IReactorTime(reactor).callLater)
    observer = _observer(options, turn_end)
    try:
        settings = load()
        log = observer.emit if observer else emit
        machine = machine_for(settings, reactor, log, found.kinds, turn_end)
        composition = compose(settings, machine)
    except ConfigError as error:
        for problem in error.problems:
            print(f"mailsvc: {problem}", file=sys.stderr)
        sys.exit(1)
    _spare_the_collector()
    return MailService(machine, composition, load, found.problems, observer)


def _spare_the_collector() -> None:
    """Have the collector of cycles pass over what lasts as long as the process.

    A message leaves no cycle behind, so it need not look for any as often as it does by itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000)


def _loader(options: Options, found: Installed) -> Callable[[], Settings]:
    path = options["config"]
    if path is not None:
        where = os.path.abspath(path)
        return lambda: config.load(where, found.kinds, found.problems)
    secret = _webhook_secret(options) if options["webhook"] else ""
    return lambda: quickstart.quick(
        found.kinds,
        listen=options["listen"],
        webhook=options["webhook"],
        secret_file=secret,
        maildir=options["maildir"],
        to=options["to"],
        spool=options["spool"],
        auth=options["auth"],
        hostname=options["hostname"],
    )


def _webhook_secret(options: Options) -> str:
    """Return the file of the secret; the first start makes it and shows it on the terminal."""
    directory = os.path.abspath(options["spool"] or DEFAULT_SPOOL)
    path = os.path.join(directory, _SECRET)
    if not os.path.exists(path):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        secret = secretfile.make_secret(path)
        print(f"made a secret to sign requests with: {secret.reveal()} (kept in {path})")
    else:
        print(f"requests are signed with the secret in {path}")
    sys.stdout.flush()
    return path


def _observer(options: Options, turn_end: TurnEnd) -> JSONLines | TextLines | None:
    """Return what writes the log, or None where it is twistd's: files, syslog, ``--logger``."""
    if options["log-json"]:
        return JSONLines(_stream(options), later=turn_end.add)
    above = options.parent
    if above is None or not above.get("nodaemon") or above.get("syslog") or above.get("logger"):
        return None
    if above.get("logfile") not in (None, "-"):
        return None
    return TextLines(sys.stdout, later=turn_end.add)


def _stream(options: Options) -> Callable[[], TextIO]:
    """Return what gives the file to log to: twistd's ``--logfile``, or standard output."""
    logfile = options.parent["logfile"] if options.parent is not None else None
    if not logfile or logfile == "-":
        stdout = sys.stdout
        return lambda: stdout
    file = open(logfile, "a", encoding="utf-8")  # noqa: SIM115 - it stays open with the process
    return lambda: file
