"""Posts requests to one URL and returns what was answered.

It speaks through treq; beneath treq is :mod:`mailsvc.deliverers.webhook.client`.  Nothing above
knows that.  Without sockets, treq takes a tenth of what a request costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from types import FunctionType
from typing import Any

from hyperlink import EncodedURL
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse

from mailsvc.deadline import Deadlines
from mailsvc.deliverers.webhook.answers import Answer
from mailsvc.deliverers.webhook.client import StaleConnection
from mailsvc.deliverers.webhook.egress import EgressRefused
from mailsvc.deliverers.webhook.payload import Reactor
from mailsvc.deliverers.webhook.response import ANSWER_LIMIT, AnswerTooLong, BadAnswer
from mailsvc.deliverers.webhook.upload import Body, Upload, Watch
from mailsvc.errors import SpoolError, TransientFailure
from mailsvc.wording import printable


class _FixedURL(EncodedURL):
    """The URL that treq is given, parsed once: parsing it anew would be most of treq's cost.

    The client knows the real one, since treq's parser takes no IPv6 literal.
    """

    def to_uri(self) -> _FixedURL:
        return self

    def to_text(self, with_password: bool = False) -> str:
        return "http://destination.invalid/"


_PLACEHOLDER = _FixedURL.from_text("http://destination.invalid/")


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    """Return a field's name as ``Headers`` writes it."""
    ((written, _),) = Headers({name: [""]}).getAllRawHeaders()
    return written


class _Fields(Headers):
    """Fields of one request, which nobody need copy.

    A printable value needs none of what ``addRawHeader`` does to keep it on one line.
    """

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        for name, value in fields:
            if value.isprintable():
                self._rawHeaders.setdefault(_name(name), []).append(value.encode("ascii"))
            else:
                self.addRawHeader(name.encode("ascii"), value.encode("ascii"))

    def copy(self) -> _Fields:
        return self


#: Nothing puts cookies here, see :class:`_Treq`; and no domain may.
_NO_COOKIES = IndexableCookieJar(DefaultCookiePolicy(allowed_domains=()))


def _itself(agent: IAgent, _: object) -> IAgent:
    """Return an agent as it is: the place of one that would wrap it."""
    return agent


def _unwrapped(request: Any) -> Any:  # noqa: ANN401
    """Return treq's own ``request`` with others for the agents that it wraps its agent in.

    A treq that is made otherwise one day does what it does by itself.
    """
    if not isinstance(request, FunctionType) or request.__code__.co_freevars:
        return request
    others = {"CookieAgent": _itself, "ContentDecoderAgent": _itself}
    found = FunctionType(request.__code__, {**request.__globals__, **others})
    found.__kwdefaults__, found.__defaults__ = request.__kwdefaults__, request.__defaults__
    return found


class _Treq(HTTPClient):
    """treq's client; its requests go to its agent as they are.

    For each request treq wraps its agent in one that keeps cookies, which takes the URL apart, and
    one that inflates.  Here neither may do anything, and they are 6 % of the instructions of a
    posted mail.  treq cannot be told so.
    """

    request = _unwrapped(HTTPClient.request)


def _as_it_is(body: Upload) -> IBodyProducer:
    """Return what treq would ask zope for."""
    return body


class _Collector(Protocol):
    """Collects an answer's body, which is there as a whole when it is asked for."""

    def __init__(self) -> None:
        self.body = b""

    def dataReceived(self, data: bytes) -> None:
        self.body += data


class Transport:
    """Posts to one URL, over connections of its own.

    Connections are never shared between destinations: each has its own guard and trust.

    :param agent: sends requests to the URL, and answers with whole answers.
    """

    def __init__(self, reactor: Reactor, agent: IAgent) -> None:
        self._reactor = reactor
        #: One delayed call for all requests: none ever passes.
        self._deadlines: Deadlines[Watch] = Deadlines(reactor)
        self._client = _Treq(agent, _NO_COOKIES, data_to_body_producer=_as_it_is)

    async def post(self, headers: Sequence[tuple[str, str]], body: Body) -> Answer:
        """Send one request and return the answer, whatever its status.

        Times are those of :mod:`mailsvc.deliverers.webhook.upload`.  Cancelling ends the request
        and its connection.

        :param headers: names and values in printable ASCII.
        :raises mailsvc.errors.TransientFailure: there was no whole answer.
        :raises mailsvc.errors.SpoolError: the body's content could not be read.
        """
        fields = _Fields(headers)
        try:
            return await self._attempt(fields, body)
        except _Stale:
            # The peer closed an idle connection at the moment when it was used again.  The same
            # request, id included, goes out once more; a second time this is a failure.
            return await self._attempt(fields, body, last=True)

    async def _attempt(self, headers: Headers, body: Body, *, last: bool = False) -> Answer:
        watch = Watch(self._deadlines)
        try:
            sent: Deferred[Any] = self._client.request(
                "POST",
                _PLACEHOLDER,
                headers=headers,
                data=Upload(body, watch),
                cookies=_NO_COOKIES,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            watch.start(sent.cancel)
            # Without treq's proxy: it has no part in an answer that is not decoded.
            response: IResponse = (await sent).original
            collector = _Collector()
            response.deliverBody(collector)
        except Exception as error:
            if watch.expired:
                raise TransientFailure(watch.expired) from None
            if isinstance(error, StaleConnection) and not last:
                raise _Stale from None
            if isinstance(error, (CancelledError, SpoolError)):
                raise
            raise TransientFailure(_worded(error)) from error
        finally:
            watch.stop()
        return Answer(
            status=response.code,
            content_type=_field(response, b"content-type"),
            retry_after=_field(response, b"retry-after"),
            body=collector.body,
        )


class _Stale(Exception):
    """The request met a stale connection and may be sent again."""


def _field(response: IResponse, name: bytes) -> str:
    values = response.headers.getRawHeaders(name)
    return values[0].decode("latin-1") if values else ""


def _worded(cause: Exception) -> str:
    """Say what went wrong, for the operator."""
    if isinstance(cause, EgressRefused):
        return f"the address is not allowed: {cause} (see allow_private and allow_networks)"
    if isinstance(cause, AnswerTooLong):
        return f"the answer is longer than {ANSWER_LIMIT} octets"
    if isinstance(cause, BadAnswer):
        return f"the answer is malformed: {cause}"
    if isinstance(cause, DNSLookupError):
        return "the host's name does not resolve"
    if isinstance(cause, ConnectError):
        return f"no connection: {printable(cause)}"
    if isinstance(cause, VerificationError):
        return f"the certificate is not the host's: {printable(cause)}"
    if isinstance(cause, SSL.Error):
        return f"TLS failed: {_worded_tls(cause)}"
    if isinstance(cause, (ConnectionClosed, StaleConnection)):
        return "the connection was closed before the whole answer was there"
    return f"the request failed: {printable(type(cause).__name__)}: {printable(cause)}"


def _worded_tls(error: SSL.Error) -> str:
    """Return the reasons that OpenSSL gives."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [str(entry[-1]) for entry in entries if entry]
    return printable(", ".join(reasons) or "the handshake was broken off")
