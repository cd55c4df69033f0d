import os

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from inbox import keep
from standardwebhooks import Webhook, WebhookVerificationError

app = FastAPI()
webhook = Webhook(os.environ["WEBHOOK_SECRET"])


@app.post("/inbound")
async def inbound(request: Request):
    body = await request.body()
    try:
        mail = webhook.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return Response(status_code=401)
    await run_in_threadpool(keep, mail["id"], body)
    return Response(status_code=204)
