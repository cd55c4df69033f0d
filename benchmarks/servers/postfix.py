"""Postfix: an instance of its own below the workplace, started in the foreground; needs root."""

from __future__ import annotations

import os
import pwd
import re
import shutil
from collections.abc import Iterator
from typing import ClassVar

from benchmarks.servers.server import Server, files_below, set_aside
from benchmarks.workplace import Missing, program

_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
mail_owner = postfix
myhostname = mx.example.com
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
alias_maps =
alias_database =
local_recipient_maps =
maillog_file_prefixes = {directory}
maillog_file = {directory}/log
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
in_flow_delay = 0
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = example.com
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = static:all/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_transport = {transport}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
default_process_limit = 200
bench_destination_recipient_limit = 1
bench_destination_concurrency_limit = 50
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
virtual   unix  - n n - - virtual
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
bench     unix  - n n - 50 pipe flags=q user=nobody argv={command}
"""


class Postfix(Server):
    """Postfix; the subclasses say where it delivers."""

    durable = True
    transport: ClassVar[str]
    command = "/bin/false"

    def commands(self) -> list[list[str]]:
        """Write its configuration."""
        executable = program("postfix")
        if os.geteuid():
            raise Missing("Postfix can be started by root only")
        nobody = pwd.getpwnam("nobody")
        certificate, key = self.workplace.certificate()
        settings = self.directory / "etc"
        for name in ("etc", "queue", "data", "mail"):
            (self.directory / name).mkdir()
        shutil.chown(self.directory / "data", "postfix")
        shutil.chown(self.directory / "mail", "nobody")
        (settings / "main.cf").write_text(
            _MAIN.format(
                directory=self.directory,
                uid=nobody.pw_uid,
                gid=nobody.pw_gid,
                transport=self.transport,
                certificate=certificate,
                key=key,
            )
        )
        (settings / "master.cf").write_text(_MASTER.format(port=self.port, command=self.command))
        return [[executable, "-c", str(settings), "start-fg"]]

    _mark = 0

    def clear(self) -> None:
        """Count from here."""
        log = self.directory / "log"
        self._mark = log.stat().st_size if log.exists() else 0

    def counted(self) -> int | None:
        """Return how many deliveries the log tells of."""
        log = self.directory / "log"
        if not log.exists():
            return 0
        with open(log, "rb") as file:
            file.seek(self._mark)
            return len(re.findall(rb" status=sent ", file.read()))


class PostfixDiscarding(Postfix):
    """A queue file, and then nothing."""

    key, title = "postfix", "Postfix, queue file, then discard"
    transport = "discard:"


class PostfixInMaildir(Postfix):
    """Virtual delivery to a maildir."""

    key, title = "postfix-maildir", "Postfix, virtual maildir"
    transport = "virtual:"

    def stored(self) -> Iterator[bytes]:
        """Return the files of the maildir."""
        return (path.read_bytes() for path in files_below(self.directory / "mail" / "all" / "new"))

    def counted(self) -> int | None:
        """Return how many files there are."""
        return sum(1 for _ in files_below(self.directory / "mail" / "all" / "new"))

    def clear(self) -> None:
        """Remove them."""
        set_aside(self.directory / "mail")


class PostfixToCurl(Postfix):
    """A curl for each message, which posts it."""

    key, title = "postfix-curl", "Postfix, pipe to curl"
    transport = "bench:"
    url = ""

    def commands(self) -> list[list[str]]:
        """Name the receiver."""
        curl = program("curl")
        self.command = f"{curl} -s --fail -o /dev/null --data-binary @- {self.url}"
        return super().commands()
