"""Receivers that users have: django-anymail's inbound views."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from mailsvc.deliverers.webhook.formats import Payload
from tests.deliverers.formats.mails import body

#: A value of a library without types.
Foreign = Any

#: What the views verify Mailgun's signature with.
SIGNING_KEY = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0"


def anymail(service: str, payload: Payload) -> tuple[Foreign, Foreign]:
    """Post a payload to a view of django-anymail.

    :param service: ``Postmark``, ``SendGrid`` or ``Mailgun``.
    :return: the event that the application is given, and the HTTP response.
    """
    django = import_module("django")
    settings = import_module("django.conf").settings
    if not settings.configured:
        settings.configure(
            ANYMAIL={"MAILGUN_WEBHOOK_SIGNING_KEY": SIGNING_KEY, "WEBHOOK_SECRET": "user:password"},
            ALLOWED_HOSTS=["testserver"],
            DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        )
        django.setup()
    view = getattr(
        import_module(f"anymail.webhooks.{service.lower()}"), f"{service}InboundWebhookView"
    )
    inbound = import_module("anymail.signals").inbound
    events: list[Foreign] = []

    def receive(sender: object, event: object, esp_name: str, **_: object) -> None:
        events.append(event)

    request = (
        import_module("django.test")
        .RequestFactory()
        .generic(
            "POST",
            "/inbound",
            body(payload),
            payload.content_type,
            HTTP_AUTHORIZATION="Basic dXNlcjpwYXNzd29yZA==",
        )
    )
    inbound.connect(receive)
    try:
        with warnings.catch_warnings():
            # It says that the project no longer has a SendGrid account to test with.
            warnings.simplefilter("ignore")
            response = view.as_view()(request)
    finally:
        inbound.disconnect(receive)
    (event,) = events
    return event, response
