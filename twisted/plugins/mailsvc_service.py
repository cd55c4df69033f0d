"""``twistd mailsvc``."""

from twisted.application.service import ServiceMaker

mailsvc = ServiceMaker(
    "mailsvc",
    "mailsvc.tap",
    "An SMTP front door for applications: mail in, webhook out.",
    "mailsvc",
)
