"""A service with TLS and a user, as the clients of several test modules need it."""

from __future__ import annotations

from tests.system import configurations
from tests.system.authority import authority
from tests.system.harness import SystemTestCase

USER, PASSWORD = "alice", "correct horse 7+"


class SecureTestCase(SystemTestCase):
    """Three listeners: MX and submission with STARTTLS, submission with implicit TLS.

    :cvar auth: further keys of ``[auth]``.
    """

    auth = ""

    def setUp(self) -> None:
        super().setUp()
        self.authority = authority(self.directory / "tls")
        self.trust = str(self.authority.trust)
        listeners = (
            configurations.listener("mx", "starttls"),
            configurations.listener("submission", "starttls"),
            configurations.listener("submission", "implicit"),
        )
        configuration = self.write(
            "mailsvc.toml",
            f"""{configurations.maildir(self.directory, *listeners)}
[tls]
certificates = "{self.authority.identity}"

[auth]
users = "{self.directory}/users"
{self.auth}
""",
        )
        self.mailsvc(
            *("passwd", "--config", str(configuration), "add", USER),
            stdin=f"{PASSWORD}\n{PASSWORD}\n",
        )
        self.running = self.server("--config", str(configuration)).start(listeners=3)
        self.mx, self.submission, self.implicit = self.running.ports()
