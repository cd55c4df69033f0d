"""Flame graphs of accepting and of delivering, by py-spy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from benchmarks.load import Load, send
from benchmarks.pictures import IMAGES
from benchmarks.receiver import Receiver
from benchmarks.servers.ours import Ours, OursDiscarding, OursInMaildir, OursPosting
from benchmarks.workplace import Missing, Workplace

_TITLE = re.compile(r'(<text id="title"[^>]*>)[^<]*(</text>)')


def record(workplace: Workplace, seconds: float, images: Path = IMAGES) -> list[Path]:
    """Record a graph of each while a load runs, and return the files.

    :raises Missing: py-spy is not installed.
    """
    images.mkdir(parents=True, exist_ok=True)
    made = [_graph(workplace, OursDiscarding(workplace), Load(), seconds, images / "accepting.svg")]
    made.append(_graph(workplace, OursInMaildir(workplace), Load(), seconds, images / "filing.svg"))
    with Receiver(workplace) as receiver:
        posting = OursPosting(workplace)
        posting.url = receiver.url
        load = Load(multipart=True)
        made.append(_graph(workplace, posting, load, seconds, images / "posting.svg"))
    return made


def _graph(workplace: Workplace, server: Ours, load: Load, seconds: float, path: Path) -> Path:
    spy = workplace.peers / "python" / "bin" / "py-spy"
    if not spy.exists():
        raise Missing("py-spy is not installed (python -m benchmarks --install)")
    # py-spy sees the functions of the interpreter only.
    server.plain = True
    with server:
        warm = Load(messages=500, multipart=load.multipart)
        send(workplace, server.port, warm)
        # Without the GIL as well: what a thread does outside Python counts.
        words = ["record", "--rate", "250", "--format", "flamegraph", "--output", str(path)]
        words += ["--duration", str(max(1, round(seconds))), "--pid", str(server.pids[0])]
        spying = subprocess.Popen([spy, *words], stdout=subprocess.DEVNULL)
        many = Load(
            sessions=load.sessions,
            messages=100_000,
            seconds=seconds,
            multipart=load.multipart,
        )
        send(workplace, server.port, many)
        spying.wait()
        server.rest()
    # py-spy's title is its command line, with the paths of this machine.
    drawn = path.read_text("utf-8")
    path.write_text(_TITLE.sub(rf"\g<1>{server.title}\g<2>", drawn), "utf-8")
    print(f"  {path}", flush=True)
    return path
