"""aiosmtpd on PORT: writes each message to a file below DIRECTORY, or posts it to URL, then 250.

Run by the Python of the peers: ``aiosmtpd_server.py PORT DIRECTORY|URL``.
"""

import asyncio
import itertools
import os
import sys

from aiosmtpd.smtp import SMTP

_NUMBERS = itertools.count()


def write(directory, content):
    """Write and sync one file."""
    path = os.path.join(directory, f"{next(_NUMBERS):09d}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Files:
    """Stores."""

    def __init__(self, directory):
        self.directory = directory

    async def handle_DATA(self, server, session, envelope):
        await asyncio.to_thread(write, self.directory, envelope.content)
        return "250 OK"


class Posts:
    """Posts."""

    def __init__(self, url, http):
        self.url, self.http = url, http

    async def handle_DATA(self, server, session, envelope):
        async with self.http.post(self.url, data=envelope.content) as answer:
            return "250 OK" if answer.status == 204 else "451 later"


async def main(port, target):
    if target.startswith("http:"):
        import aiohttp

        connector = aiohttp.TCPConnector(limit=50)
        deliverer = Posts(target, aiohttp.ClientSession(connector=connector))
    else:
        deliverer = Files(target)
    loop = asyncio.get_running_loop()
    await loop.create_server(
        lambda: SMTP(deliverer, data_size_limit=100 << 20, hostname="mx.example.com", loop=loop),
        "127.0.0.1",
        port,
        backlog=1024,
    )
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
