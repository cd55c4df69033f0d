"""The keys of the built-in destinations' sections.

This module is imported by every twistd command, so it holds nothing but the keys.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from mailsvc.units import Networks, Size


class DiscardOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """``kind = "discard"`` has no keys of its own."""


class MaildirOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``kind = "maildir"``.

    :ivar path: the maildir; ``{user}``, ``{domain}`` and ``{tag}`` stand for the recipient's.
    :ivar line_ending: how lines end in the files.
    :ivar delivered_to: whether a Delivered-To field with the recipient is prepended.
    """

    path: str
    line_ending: Literal["lf", "crlf"] = "lf"
    delivered_to: bool = False


class WebhookOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``kind = "webhook"``.

    :ivar url: where each mail is posted: http or https, without user and password.
    :ivar format: the payload's form.
    :ivar answers: what an HTTP answer means: ``standard`` or ``cloudmailin``.
    :ivar secret_file: a file with the secrets to sign with, one a line, all of them in force.
    :ivar secret_env: the same from an environment variable.
    :ivar secret_credential: the same from a systemd credential.
    :ivar username: for HTTP basic authentication.
    :ivar password_file: its password, the first line of a file.
    :ivar password_env: the same from an environment variable.
    :ivar password_credential: the same from a systemd credential.
    :ivar headers: further header fields of the request.
    :ivar allow_private: whether the address may be loopback, private or carrier-shared.
    :ivar allow_networks: networks that are allowed, whatever kind they are of.
    :ivar ca_file: the certificate authorities to trust instead of the system's, in PEM.
    :ivar inline_limit: the largest attachment that is part of the payload, where a format can
        leave one out.
    :ivar include_raw: whether the whole mail is part of the payload too, where a format has a
        place for it.
    """

    url: str
    format: str = "mailsvc"
    answers: Literal["standard", "cloudmailin"] = "standard"
    secret_file: str = ""
    secret_env: str = ""
    secret_credential: str = ""
    username: str = "actionmailbox"
    password_file: str = ""
    password_env: str = ""
    password_credential: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    allow_private: bool = False
    allow_networks: Networks = Networks()
    ca_file: str = ""
    inline_limit: Size = Size(262_144)
    include_raw: bool = False

    def __repr__(self) -> str:
        # The URL's query and the header fields may be secret.
        return f"WebhookOptions({self.url.partition('?')[0]!r})"
