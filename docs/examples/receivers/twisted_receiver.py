import os

from inbox import keep
from standardwebhooks import Webhook, WebhookVerificationError
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

webhook = Webhook(os.environ["WEBHOOK_SECRET"])


class Inbound(Resource):
    def getChild(self, name, request):
        return self

    def render_POST(self, request):
        body = request.content.read()
        headers = {k.decode(): v.decode("latin-1") for k, v in request.getAllHeaders().items()}
        try:
            mail = webhook.verify(body, headers)
        except WebhookVerificationError:
            request.setResponseCode(401)
            return b""
        lost = []
        request.notifyFinish().addErrback(lost.append)
        kept = deferToThread(keep, mail["id"], body)
        kept.addCallback(lambda _: request.setResponseCode(204))
        kept.addErrback(lambda failure: request.setResponseCode(500))
        kept.addCallback(lambda _: lost or request.finish())
        return NOT_DONE_YET
