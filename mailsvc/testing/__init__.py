"""For the tests of plugins, and ours: contract suites, and fakes that keep their promises.

A contract suite is a mixin for ``twisted.trial.unittest.TestCase``: what it lacks to make one
implementation is what a subclass defines.
"""

from __future__ import annotations

from mailsvc.testing.deliverers import DelivererContract, GroupDelivererContract
from mailsvc.testing.fakes import (
    MAIL,
    RECIPIENT,
    REVERSE_PATH,
    DamagedContent,
    FakeContext,
    MemoryContent,
    make_delivery,
    started,
)
from mailsvc.testing.spools import SpoolContract

__all__ = [
    "MAIL",
    "RECIPIENT",
    "REVERSE_PATH",
    "DamagedContent",
    "DelivererContract",
    "FakeContext",
    "GroupDelivererContract",
    "MemoryContent",
    "SpoolContract",
    "make_delivery",
    "started",
]
