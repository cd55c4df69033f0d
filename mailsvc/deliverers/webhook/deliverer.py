"""The ``webhook`` destination: makes a payload, signs it, posts it, and reads the answer."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial

from msgspec import Struct
from msgspec.structs import replace
from zope.interface import implementer

from mailsvc import secretfile
from mailsvc.deliverers.options import WebhookOptions
from mailsvc.deliverers.webhook.answers import ANSWERS, Mapping
from mailsvc.deliverers.webhook.client import Client
from mailsvc.deliverers.webhook.egress import Guard, GuardedEndpoints
from mailsvc.deliverers.webhook.formats import FORMATS
from mailsvc.deliverers.webhook.payload import Format, FormatOptions, Payload, Stream
from mailsvc.deliverers.webhook.signing import Key, keys, signature_headers
from mailsvc.deliverers.webhook.target import target, tls_creator
from mailsvc.deliverers.webhook.transport import Transport
from mailsvc.deliverers.webhook.upload import CONNECT_SECONDS, Body
from mailsvc.errors import ConfigError
from mailsvc.events import Alert
from mailsvc.interfaces import IClosing, IContent, IDeliverer, IDelivererContext
from mailsvc.links import Links
from mailsvc.message import Delivery
from mailsvc.parsed import Attachment, ParsedMail
from mailsvc.secretfile import Secret, SecretSource

#: A stream up to this many octets is read at once, in the same thread that makes the payload.
_AT_ONCE = 262_144

_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
#: Fields that are ours to set.
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)


class Prepared(Struct, frozen=True):
    """A request that is ready to go.

    :ivar linked: its body holds links to the content, which has to be kept for them.
    :ivar mail: what it was made of: it counts as memory until the request is done.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes | Stream
    linked: bool = False
    mail: ParsedMail | None = None

    def __repr__(self) -> str:
        # Without what may be secret, and what is long.
        return f"Prepared(linked={self.linked!r})"


@dataclass(frozen=True, slots=True)
class Requests:
    """Makes the requests of one destination; what it does may block.

    :ivar headers: fields of every request.
    :ivar links: makes the links to large attachments; None: there are none.
    """

    format: Format
    options: FormatOptions
    keys: tuple[Key, ...]
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    now: Callable[[], float]
    links: Links | None = None

    def prepare(self, delivery: Delivery, content: IContent, mail: ParsedMail | None) -> Prepared:
        """Return the request for one attempt, signed with the time of now."""
        made: list[str] = []
        options = self.options
        if self.links is not None:
            options = replace(options, link=partial(_noted_link, self.links, made))
        payload: Payload = self.format.payload(delivery, content, mail, options)
        body = payload.body
        if isinstance(body, Stream) and body.size <= _AT_ONCE:
            with body.content.open() as reader:
                body = body.prefix + reader.read()
        signature = signature_headers(self.keys, delivery.id, int(self.now()), body)
        content_type = ("Content-Type", payload.content_type)
        headers = (content_type, *payload.headers, *signature, *self.headers)
        return Prepared(headers, body, bool(made), mail)


def _noted_link(links: Links, made: list[str], message_id: str, attachment: Attachment) -> str:
    url = links.url(message_id, attachment)
    made.append(url)
    return url


@implementer(IDeliverer, IClosing)
class Webhook:
    """Posts each mail to a URL (requirements 47 to 52).

    :param answers: what an answer means; see :mod:`mailsvc.deliverers.webhook.answers`.
    :param client: what the transport stands on; closed by :meth:`close`.
    """

    def __init__(
        self,
        context: IDelivererContext,
        requests: Requests,
        transport: Transport,
        answers: Mapping,
        client: Client | None = None,
    ) -> None:
        self._context = context
        self._requests = requests
        self._transport = transport
        self._answers = answers
        self._client = client

    @classmethod
    def from_options(cls, options: WebhookOptions, context: IDelivererContext) -> Webhook:
        """Return a deliverer for one section of the configuration.  Blocking: reads secrets.

        :raises mailsvc.errors.ConfigError: the options cannot work.
        """
        where = target(options.url)
        requests = make_requests(options, context)
        tls = tls_creator(where.host, options.ca_file) if where.secure else None
        guard = Guard(options.allow_private, tuple(options.allow_networks))
        endpoints = GuardedEndpoints(context.reactor, guard, tls, CONNECT_SECONDS)
        client = Client(context.reactor, endpoints, where.url)
        transport = Transport(context.reactor, client)
        return cls(context, requests, transport, ANSWERS[options.answers], client)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Return the keys that sign its requests; there may be none."""
        return self._requests.keys

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """Post one delivery; see :class:`~mailsvc.interfaces.IDeliverer`."""
        prepare = partial(self._requests.prepare, delivery, content)
        if self._requests.format.wants_mail:
            request = await self._context.parsed(content, prepare)
        else:
            request = await self._context.in_thread(prepare, None)
        if request.linked and self._requests.links is not None:
            # Before the receiver knows of them, the links have something to lead to.
            await self._requests.links.keep(delivery.envelope.id)
        body = Body(request.body, self._context.in_thread)
        answer = await self._transport.post(request.headers, body)
        self._answers(answer, self._requests.now())

    async def close(self) -> None:
        """Close the connections that are kept for later; see :class:`IClosing`."""
        if self._client is not None:
            await self._client.close()


def make_requests(options: WebhookOptions, context: IDelivererContext) -> Requests:
    """Return what makes the requests of one section.  Blocking: reads secrets.

    :raises mailsvc.errors.ConfigError: the options cannot work.
    """
    format = FORMATS.get(options.format)
    if format is None:
        near = get_close_matches(options.format, FORMATS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"format: there is no format {options.format!r}{hint} (there are"
            f" {', '.join(sorted(FORMATS))})"
        )
    now: Callable[[], float] = context.reactor.seconds
    secrets = _secrets("secret", options, context)
    passwords = _secrets("password", options, context)
    try:
        signing = keys(secrets)
    except ConfigError as error:
        raise ConfigError(f"secret: {error}") from None
    if not (secrets or passwords):
        context.emit(
            Alert(
                f"destination {context.name}: requests are not signed, so the receiver cannot tell"
                " them from anybody's; name a secret_file"
            )
        )
    headers = [("User-Agent", "mailsvc"), *_own_headers(options)]
    if passwords:
        headers.append(("Authorization", _basic(options.username, passwords[0])))
    format_options = FormatOptions(
        url=options.url,
        hostname=context.hostname,
        now=now,
        inline_limit=options.inline_limit,
        raw=options.include_raw,
        secrets=secrets,
    )
    return Requests(format, format_options, signing, tuple(headers), now, context.links)


def _secrets(name: str, options: WebhookOptions, context: IDelivererContext) -> tuple[Secret, ...]:
    sources = {
        f"{name}_file": SecretSource(file=getattr(options, f"{name}_file")),
        f"{name}_env": SecretSource(variable=getattr(options, f"{name}_env")),
        f"{name}_credential": SecretSource(credential=getattr(options, f"{name}_credential")),
    }
    named = [(key, source) for key, source in sources.items() if source != SecretSource()]
    if not named:
        return ()
    if len(named) > 1:
        raise ConfigError(f"{named[1][0]}: {named[0][0]} is given already; one of them is enough")
    key, source = named[0]
    try:
        loaded = secretfile.load(source)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    for warning in loaded.warnings:
        context.emit(Alert(f"destination {context.name}: {warning}"))
    return loaded.secrets


def _own_headers(options: WebhookOptions) -> Sequence[tuple[str, str]]:
    for name, value in options.headers.items():
        if not _FIELD_NAME.fullmatch(name):
            raise ConfigError(f"headers: {name!r} is no name of a header field")
        if name.lower() in _OURS:
            raise ConfigError(f"headers: {name} is set by mailsvc")
        if not _FIELD_VALUE.fullmatch(value):
            raise ConfigError(f"headers: the value of {name} is not printable ASCII")
    return tuple(options.headers.items())


def _basic(username: str, password: Secret) -> str:
    """Return the credentials of HTTP basic authentication (RFC 7617 section 2)."""
    if ":" in username:
        raise ConfigError("username: it must not hold a colon")
    pair = f"{username}:{password.reveal()}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")
