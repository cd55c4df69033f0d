"""The ``mailsvc`` command: looks after a service, running or not."""

from mailsvc.cli.command import main

__all__ = ["main"]
