"""Writes the corpus as files: ``python -m tests.corpus DIRECTORY [OCTETS]``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.corpus import GENERATORS


def main(directory: str, size: str = "65536") -> None:
    """Write one mail of about that many octets for each generator."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    for generator in GENERATORS:
        (folder / f"{generator.__name__}.eml").write_bytes(generator(int(size)))


if __name__ == "__main__":
    main(*sys.argv[1:])
