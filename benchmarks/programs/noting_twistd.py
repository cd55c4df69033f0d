"""twistd, which notes what its processes can tell of themselves only.

``MAILSVC_NOTES=FILE noting_twistd.py WORDS …``.  When it ends, FILE.PID holds a JSON object: how
many groups the spool's writer committed, how many turns the reactor made, how often a thread waited
for something, and when each full collection of garbage began and how many seconds it took.
"""

import gc
import json
import os
import resource
import sqlite3
import sys
import time
from functools import partial

from twisted.internet import reactor
from twisted.scripts.twistd import run

notes = {"groups": 0, "turns": 0, "waits": 0, "collections": []}
_turn = reactor.doIteration


class _Noted(sqlite3.Connection):
    """Counts groups by their commits: no method of a compiled writer can be replaced."""

    def execute(self, sql, *values):
        notes["groups"] += sql == "COMMIT"
        return super().execute(sql, *values)


def _turned(timeout):
    notes["turns"] += 1
    _turn(timeout)


def _collecting(phase, info):
    if info["generation"] == 2:
        if phase == "start":
            notes["collections"].append([time.time(), 0.0])
        elif notes["collections"]:
            began = notes["collections"][-1]
            began[1] = time.time() - began[0]


def _write():
    notes["waits"] = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    with open(f"{os.environ['MAILSVC_NOTES']}.{os.getpid()}", "w") as file:
        json.dump(notes, file)


sqlite3.connect = partial(sqlite3.connect, factory=_Noted)
reactor.doIteration = _turned
gc.callbacks.append(_collecting)
# After a signal twistd ends by the same signal: nothing later is called.
reactor.addSystemEventTrigger("after", "shutdown", _write)
sys.argv[0] = "twistd"
run()
