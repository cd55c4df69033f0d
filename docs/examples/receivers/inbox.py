import os
from pathlib import Path

INBOX = Path("inbox")
INBOX.mkdir(exist_ok=True)


def keep(delivery, body):
    """Put a mail where it is safe.  The same delivery again is the same file again."""
    part = INBOX / f".{delivery}"
    with part.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    part.rename(INBOX / f"{delivery}.json")
