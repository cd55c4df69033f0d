"""Reads the conversations under tests/dialogues/; their README tells what the lines mean."""

from __future__ import annotations

import ast
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailsvc.message import Reply
from mailsvc.smtp.questions import Answer, Authenticated, Challenge
from mailsvc.smtp.session import Policy

from .owner import Script

DIRECTORY = Path(__file__).parent.parent / "dialogues"


@dataclass
class Step:
    """What the client sends in one go, and what follows from it."""

    sent: bytes = b""
    replies: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


@dataclass
class Dialogue:
    title: str
    policy: Policy
    script: Script
    secure: bool
    whole: bool
    steps: list[Step]


def reply(text: str) -> Reply:
    """Read ``550 5.1.1 Text``."""
    code, status, rest = text.split(" ", 2)
    return Reply(int(code), rest, status)


def unescape(text: str) -> bytes:
    value = ast.literal_eval("b'" + text.replace("'", "\\'") + "'")
    assert isinstance(value, bytes)
    return value


def read(path: Path) -> Dialogue:
    """Read one file.

    :raises ValueError: with file and line, if a line is not understood.
    """
    title: list[str] = []
    settings: dict[str, Any] = {"hostname": "mx.example.com"}
    kinds = typing.get_type_hints(Policy)
    script = Script()
    secure = whole = False
    step = Step()
    steps = [step]
    talking = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            if line.startswith("#"):
                if not talking and len(settings) == 1:
                    title.append(line.lstrip("# "))
            elif not line.strip():
                continue
            elif line.startswith(("C: ", "C| ")) or line in ("C:", "C|"):
                talking = True
                if step.replies or step.told:
                    step = Step()
                    steps.append(step)
                octets = line[3:].encode() + b"\r\n" if line[1] == ":" else unescape(line[3:])
                step.sent += octets
            elif line.startswith("S: "):
                talking = True
                step.replies.append(line[3:])
            elif line.startswith("O: "):
                step.told.append(line[3:])
            elif talking:
                raise ValueError("not a line of a conversation")
            else:
                key, value = line.split(": ", 1)
                if key == "tls":
                    secure = value == "yes"
                elif key == "segments":
                    whole = value == "whole"
                elif key == "limit":
                    script.ceiling = int(value)
                elif key.startswith("answer "):
                    _answer(script, key.split(" ", 2)[1:], value)
                else:
                    kind = kinds[key]
                    settings[key] = _value(kind, value)
        except (ValueError, KeyError, SyntaxError) as error:
            raise ValueError(f"{path.name}:{number}: {error!r}: {line}") from error
    policy = Policy(**settings)
    return Dialogue(" ".join(title), policy, script, secure, whole, steps)


def _value(kind: object, text: str) -> object:
    if kind is bool:
        return {"yes": True, "no": False}[text]
    if kind is int:
        return int(text)
    return text if kind is str else tuple(text.split())


def _answer(script: Script, words: list[str], value: str) -> None:
    question, subject = words[0], words[1] if len(words) > 1 else ""
    if question == "sender":
        script.senders[subject] = reply(value)
    elif question == "recipient":
        script.recipients[subject] = reply(value)
    elif question == "verify":
        script.verified[subject] = reply(value)
    elif question == "start":
        script.starts.append(None if value == "yes" else reply(value))
    elif question == "content":
        replies = tuple(reply(part) for part in value.split(" | "))
        script.contents.append(replies if len(replies) > 1 else replies[0])
    elif question == "login":
        mechanism, _, response = subject.partition(" ")
        answer: Answer
        if value == "yes":
            answer = Authenticated()
        elif value.startswith("challenge "):
            answer = Challenge(unescape(value.removeprefix("challenge ")))
        else:
            answer = reply(value)
        script.logins[mechanism, None if response == "none" else unescape(response)] = answer
    else:
        raise ValueError(f"no such question: {question}")
