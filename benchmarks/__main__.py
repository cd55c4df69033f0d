"""``python -m benchmarks``: measure, and write the page."""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

from benchmarks import figures, install, page, pictures, profiles
from benchmarks.sections import SECTIONS
from benchmarks.sections.run import Run
from benchmarks.workplace import DEFAULT, Workplace


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures mailsvc beside its peers. Figures are kept in the work directory.",
    )
    parser.add_argument("--work", type=Path, default=DEFAULT, help=f"default: {DEFAULT}")
    parser.add_argument(
        "--figures", type=Path, help="keep them in this file; default: in the work directory"
    )
    parser.add_argument("--install", action="store_true", help="install the peers (needs root)")
    parser.add_argument(
        "--only",
        metavar="SECTION",
        action="append",
        default=[],
        help=f"of {', '.join([*SECTIONS, 'plots', 'profiles'])}; may be repeated",
    )
    parser.add_argument("--peers", default="", help="measure these servers only: ours,smtp-sink,…")
    parser.add_argument("--rounds", type=int, default=3, help="of each server, default 3")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round, default 4")
    parser.add_argument("--soak-seconds", type=float, default=1800.0, help="default 1800")
    parser.add_argument("--quick", action="store_true", help="a smoke run: its figures say nothing")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--summary", action="store_true", help="print the short table")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    options = _arguments(words)
    known = [*SECTIONS, "plots", "profiles"]
    wanted = options.only
    if not set(wanted) <= set(known):
        print(f"--only takes {', '.join(known)}", file=sys.stderr)
        return 2
    if "plots" in wanted:
        wanted = [*wanted, "sessions", "load"]
    workplace = Workplace(options.work.resolve())
    if options.install:
        install.install(workplace)
    told = options.install or options.write_docs or options.summary
    if not wanted and not told:
        wanted = known
    # 10,000 connections, here and in what is started from here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    run = Run(
        workplace,
        rounds=1 if options.quick else options.rounds,
        seconds=1 if options.quick else options.seconds,
        quick=options.quick,
        peers=frozenset(filter(None, options.peers.split(","))),
        soak_seconds=options.soak_seconds,
    )
    ordinary = workplace.directory / ("quick.json" if run.quick else "figures.json")
    kept = figures.Figures(options.figures or ordinary)
    for name, measure in SECTIONS.items():
        if name in wanted:
            print(f"{name}:", flush=True)
            kept.add(name, measure(run), workplace)
    if "profiles" in wanted:
        profiles.record(workplace, run.seconds * 3)
    if options.write_docs:
        pictures.draw(kept.document)
        page.write(kept.document)
    if options.summary:
        print(page.summary(kept.document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
