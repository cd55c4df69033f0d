"""Posts 10 KiB of JSON to URL, COUNT times, 50 at a time, by mailsvc's own HTTP client.

Prints the CPU time of a request in microseconds, the start of the process left out.
"""

import json
import sys
import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from mailsvc.deliverers.webhook.client import Client
from mailsvc.deliverers.webhook.egress import Guard, GuardedEndpoints
from mailsvc.deliverers.webhook.target import target
from mailsvc.deliverers.webhook.transport import Transport
from mailsvc.deliverers.webhook.upload import CONNECT_SECONDS, Body

url, count = sys.argv[1], int(sys.argv[2])
endpoints = GuardedEndpoints(reactor, Guard(allow_private=True), None, CONNECT_SECONDS)
transport = Transport(reactor, Client(reactor, endpoints, target(url).url))
headers = (("Content-Type", "application/json"), ("webhook-id", "0001HZX9-1"))
body = Body(json.dumps({"text": "x" * 10_200}).encode(), None)


async def post(numbers):
    for _ in numbers:
        answer = await transport.post(headers, body)
        if answer.status != 204:
            raise ValueError(f"answered {answer.status}")


async def run(times):
    numbers = iter(range(times))
    await gatherResults([Deferred.fromCoroutine(post(numbers)) for _ in range(50)])


async def measure():
    await run(500)
    spent, began = time.process_time(), time.monotonic()
    await run(count)
    used, lasted = time.process_time() - spent, time.monotonic() - began
    print(json.dumps({"cpu": used / count * 1e6, "rate": count / lasted}))


def end(answer):
    reactor.stop()
    return answer


failed = []
reactor.callWhenRunning(
    lambda: Deferred.fromCoroutine(measure()).addErrback(failed.append).addBoth(end)
)
reactor.run()
if failed:
    sys.exit(failed[0].getTraceback())
