"""Compiles mailsvc where ``MAILSVC_COMPILE=1`` asks for it; everything else is in ``setup.cfg``.

mypyc makes one C extension of the modules in :data:`COMPILED` as they stand, so that a message
costs less CPU (docs/benchmarks.md).  Only then do mypy, a C compiler and Python's headers have to
be there: a plain installation needs none of them, and runs the same modules as Python.
"""

from __future__ import annotations

import os
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

#: The path of a message, from the first octet of a command to the record that it is delivered: all
#: that runs for each message in mailsvc's own code.  What runs for each start, login, reload or
#: request of an operator would gain nothing.  Structs are C already, and only the interpreter makes
#: them with what follows their base (``frozen=True``), so modules of values are not here.
COMPILED = (
    "mailsvc/batch.py",
    "mailsvc/breaker.py",
    "mailsvc/deadline.py",
    "mailsvc/deliverers/maildir.py",
    "mailsvc/deliverers/webhook/response.py",
    "mailsvc/direct.py",
    "mailsvc/dispatch/attempts.py",
    "mailsvc/dispatch/destination.py",
    "mailsvc/dispatch/dispatcher.py",
    "mailsvc/dispatch/means.py",
    "mailsvc/dispatch/outcomes.py",
    "mailsvc/dispatch/queue.py",
    "mailsvc/dispatch/records.py",
    "mailsvc/eager.py",
    "mailsvc/flow.py",
    "mailsvc/intake.py",
    "mailsvc/logs.py",
    "mailsvc/mime/allowance.py",
    "mailsvc/mime/charsets.py",
    "mailsvc/mime/decoding.py",
    "mailsvc/mime/fields.py",
    "mailsvc/mime/htmltext.py",
    "mailsvc/mime/mail.py",
    "mailsvc/mime/parser.py",
    "mailsvc/mime/parts.py",
    "mailsvc/mime/reply.py",
    "mailsvc/mime/utf8.py",
    "mailsvc/pace.py",
    "mailsvc/patterns.py",
    "mailsvc/protocol.py",
    "mailsvc/readers.py",
    "mailsvc/recipients.py",
    "mailsvc/routing.py",
    "mailsvc/smtp/commands.py",
    "mailsvc/smtp/content.py",
    "mailsvc/smtp/conversation.py",
    "mailsvc/smtp/grammar.py",
    "mailsvc/smtp/parameters.py",
    "mailsvc/smtp/policy.py",
    "mailsvc/smtp/replies.py",
    "mailsvc/smtp/scan.py",
    "mailsvc/smtp/session.py",
    "mailsvc/smtp/states.py",
    "mailsvc/smtp/transfer.py",
    "mailsvc/spool/accepting.py",
    "mailsvc/spool/claims.py",
    "mailsvc/spool/content.py",
    "mailsvc/spool/embedded.py",
    "mailsvc/spool/extent.py",
    "mailsvc/spool/gathering.py",
    "mailsvc/spool/held.py",
    "mailsvc/spool/ids.py",
    "mailsvc/spool/messages.py",
    "mailsvc/spool/reception.py",
    "mailsvc/spool/rows.py",
    "mailsvc/spool/schema.py",
    "mailsvc/spool/segments.py",
    "mailsvc/spool/usage.py",
    "mailsvc/spool/workshop.py",
    "mailsvc/spool/writer.py",
    "mailsvc/threads.py",
    "mailsvc/timing.py",
    "mailsvc/trace.py",
    "mailsvc/transaction.py",
    "mailsvc/turnend.py",
    "mailsvc/wording.py",
)

#: What else a compilation needs; with what mailsvc itself needs, so that its types are known.
_TOOLS = ["mypy[mypyc] >= 2.4", "mypy-zope >= 1.0.11"]

#: The commands that need the extension itself, not only what it is called.
_BUILDING = {"bdist_wheel", "build", "build_ext", "editable_wheel"}

_HINT = (
    "mailsvc could not be compiled: {}.\nMAILSVC_COMPILE=1 needs a C compiler and Python's headers"
    " (on Debian: gcc, libc6-dev, python3-dev); without MAILSVC_COMPILE nothing is compiled."
)


class Build(build_ext):
    """Says what is missing where nothing can be compiled."""

    def run(self) -> None:
        """Compile."""
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError) as error:
            sys.exit(_HINT.format(error))


def wanted() -> bool:
    """Return whether the environment asks for compiled modules."""
    return os.environ.get("MAILSVC_COMPILE", "0") not in ("", "0")


def requirements() -> list[str]:
    """Return what has to be installed to compile."""
    parser = ConfigParser()
    parser.read(Path(__file__).with_name("setup.cfg"), "utf-8")
    return [*_TOOLS, *parser.get("options", "install_requires").strip().splitlines()]


def extensions() -> list[Any]:
    """Return the modules as C; mypy is there once :func:`requirements` are."""
    from mypyc.build import mypycify

    # mypy's section of setup.cfg, not the linter's in pyproject.toml.
    return mypycify(["--config-file", "setup.cfg", *COMPILED], group_name="mailsvc")


if __name__ == "__main__":
    if wanted():
        setup(
            setup_requires=requirements(),
            ext_modules=extensions() if _BUILDING & set(sys.argv) else [],
            cmdclass={"build_ext": Build},
        )
    else:
        setup()
