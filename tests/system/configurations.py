"""The configurations that several system tests run."""

from __future__ import annotations

from pathlib import Path

LOOPBACK = "tcp:0:interface=127.0.0.1"


def listener(role: str = "mx", tls: str = "none", more: str = "") -> str:
    """Return one listener on a loopback port of the system's choice."""
    return f'[[listener]]\nendpoint = "{LOOPBACK}"\nrole = "{role}"\ntls = "{tls}"\n{more}\n'


def maildir(directory: Path, *listeners: str, limits: str = "", to: str = '"*@example.com"') -> str:
    """Return a configuration that files everything for ``to`` in ``directory/maildir``."""
    return f"""\
hostname = "mx.example.com"
spool = "{directory}/spool"

{"".join(listeners) or listener()}
[limits]
{limits}

[destination.archive]
kind = "maildir"
path = "{directory}/maildir"

[[route]]
to = [{to}]
deliver = ["archive"]
"""


def webhook(directory: Path, url: str, more: str = "", limits: str = "") -> str:
    """Return a configuration that posts everything for example.com to ``url``, a loopback one."""
    return f"""\
hostname = "mx.example.com"
spool = "{directory}/spool"

{listener()}
[limits]
{limits}

[destination.app]
kind = "webhook"
url = "{url}"
allow_private = true
{more}

[[route]]
to = "*@example.com"
deliver = ["app"]
"""
