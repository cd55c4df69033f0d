"""The kinds of destination that mailsvc brings along, found as a third party's would be.

Every twistd command imports this module, so an implementation is only imported in ``make``.
"""

from __future__ import annotations

from twisted.plugin import IPlugin
from zope.interface import implementer

from mailsvc.deliverers.options import DiscardOptions, MaildirOptions, WebhookOptions
from mailsvc.interfaces import IDeliverer, IDelivererContext, IDelivererFactory


@implementer(IPlugin, IDelivererFactory)
class MaildirFactory:
    """Files each mail in a maildir."""

    kind = "maildir"
    options: type = MaildirOptions

    def make(self, options: MaildirOptions, context: IDelivererContext) -> IDeliverer:
        """Return a deliverer for one section."""
        from mailsvc.deliverers.maildir import Maildir

        return Maildir(options, context)


@implementer(IPlugin, IDelivererFactory)
class WebhookFactory:
    """Posts each mail to a URL."""

    kind = "webhook"
    options: type = WebhookOptions

    def make(self, options: WebhookOptions, context: IDelivererContext) -> IDeliverer:
        """Return a deliverer for one section."""
        from mailsvc.deliverers.webhook.deliverer import Webhook

        return Webhook.from_options(options, context)


@implementer(IPlugin, IDelivererFactory)
class DiscardFactory:
    """Accepts each mail and keeps none."""

    kind = "discard"
    options: type = DiscardOptions

    def make(self, options: DiscardOptions, context: IDelivererContext) -> IDeliverer:
        """Return a deliverer for one section."""
        from mailsvc.deliverers.discard import Discard

        return Discard()


maildir = MaildirFactory()
webhook = WebhookFactory()
discard = DiscardFactory()
