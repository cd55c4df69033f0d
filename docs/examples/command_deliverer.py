from subprocess import run

from msgspec import Struct
from twisted.plugin import IPlugin
from zope.interface import implementer

from mailsvc.interfaces import IDeliverer, IDelivererFactory


class Options(Struct, forbid_unknown_fields=True):
    command: list[str]


@implementer(IDeliverer)
class Command:
    def __init__(self, options, context):
        self.command, self.in_thread = options.command, context.in_thread

    async def deliver(self, delivery, content):
        with await self.in_thread(content.open) as mail:
            octets = await self.in_thread(mail.read)
        await self.in_thread(run, self.command, input=octets, check=True, timeout=60)


@implementer(IPlugin, IDelivererFactory)
class CommandFactory:
    kind, options, make = "command", Options, Command


command = CommandFactory()
