import os

from flask import Flask, request
from inbox import keep
from standardwebhooks import Webhook, WebhookVerificationError

app = Flask(__name__)
webhook = Webhook(os.environ["WEBHOOK_SECRET"])


@app.post("/inbound")
def inbound():
    body = request.get_data()
    try:
        mail = webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return "", 401
    keep(mail["id"], body)
    return "", 204
