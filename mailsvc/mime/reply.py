"""The reply in a text: without the quoted history below or above it, and without the signature.

Every line is looked at a fixed number of times, and only through string methods and patterns that
cannot backtrack far on lines cut to a fixed length: linear, whatever the text.

What counts as history: lines that begin with ``>``, with the "On … wrote:" line before them in the
languages below; and everything after an "Original Message" rule or a block of "From: Sent: To:
Subject:" as Outlook writes it.  A forwarded message is no history: it is what the sender wants to
show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Characters of a line that are looked at.
_LOOKED_AT = 400
#: Lines that an "On … wrote:" may be folded over.
_FOLDED = 3

#: How clients say "wrote": English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
#: Danish and Norwegian, Polish, Czech, Slovak, Russian, Ukrainian, Finnish, Hungarian, Turkish,
#: Romanian, Greek, Vietnamese, Indonesian, Catalan, Croatian, Hebrew, Korean, Chinese, Japanese.
_WROTE = re.compile(
    r"\b(?:wrote|schrieb|a écrit|escribió|ha scritto|escreveu|schreef|het volgende geschreven"
    r"|skrev|följande|napisał|napisała|napisał\(a\)|pisze|napsal|napsala|napsal\(a\)|napísal"
    r"|написал|написала|пишет|написав|пише|kirjoitti|írta|yazdı|a scris|έγραψε|đã viết|menulis"
    r"|va escriure|napisao|je napisao|je napisala)\b|כתב|작성|写道|寫道|のメール|さんは書きました"
)
#: How such a line begins where the date comes first.
_OPENERS = (
    *("on ", "am ", "le ", "el ", "il giorno ", "il ", "em ", "op ", "den ", "på ", "w dniu "),
    *("dne ", "dňa ", "στις ", "vào ", "pada ", "în ", "dana ", "vào lúc "),
)
_DIGIT = re.compile(r"\d")
#: Gmail's line in Chinese, Japanese and Korean: a date, a name, an address, a colon, no verb.
_YEAR = re.compile(r"\d{4}\s?[年년]")
_ADDRESS = re.compile(r"<[^<>@]{1,100}@[^<>@]{1,200}>")

_ORIGINAL = frozenset(
    {
        *("original message", "original appointment", "reply message", "ursprüngliche nachricht"),
        *("originalnachricht", "message d'origine", "message original", "mensaje original"),
        *("messaggio originale", "mensagem original", "oorspronkelijk bericht"),
        *("originele bericht", "ursprungligt meddelande", "originalmeddelande"),
        *("oprindelig meddelelse", "original meddelelse", "opprinnelig melding"),
        *("oryginalna wiadomość", "wiadomość oryginalna", "původní zpráva", "pôvodná správa"),
        *("исходное сообщение", "оригинальное сообщение", "alkuperäinen viesti"),
        *("eredeti üzenet", "orijinal ileti", "özgün ileti", "αρχικό μήνυμα"),
        *("원본 메시지", "原始邮件", "原始郵件", "元のメッセージ"),
    }
)
_FORWARDED = re.compile(
    r"forwarded message|weitergeleitete nachricht|message transféré|mensaje reenviado"
    r"|messaggio inoltrato|mensagem encaminhada|doorgestuurd bericht|vidarebefordrat meddelande"
    r"|videresendt|wiadomość przekazana|пересылаемое сообщение|välitetty viesti"
    r"|begin forwarded|anfang der weitergeleiteten|début du message|転送|转发"
)
#: The first field of Outlook's header block, and those that follow it.
_FROM = re.compile(
    r"\*?(?:from|von|de|da|van|från|fra|od|от|від|lähettäjä|feladó|kimden|από|발신|보낸 사람"
    r"|发件人|寄件者|差出人)\s?:",
)
_FOLLOWING = re.compile(
    r"\*?(?:sent|date|to|cc|subject|gesendet|datum|an|betreff|envoyé|date|à|objet|enviado|fecha"
    r"|para|asunto|inviato|data|a|oggetto|assunto|verzonden|aan|onderwerp|skickat|till|ämne|sendt"
    r"|til|emne|wysłano|do|temat|odesláno|komu|předmět|отправлено|дата|кому|тема|lähetetty"
    r"|vastaanottaja|aihe|elküldve|címzett|tárgy|gönderilme|kime|konu|εστάλη|προς|θέμα"
    r"|보낸 날짜|받는 사람|제목|发送时间|收件人|主题|寄件日期|主旨|送信日時|宛先|件名)\s?:",
)
#: What a telephone adds where a signature would be.
_DEVICE = re.compile(
    r"(?:sent from|sent with|get outlook for|von meinem|gesendet (?:von|mit)|envoyé (?:de|à partir)"
    r"|enviado (?:desde|do|de)|inviato da|verstuurd vanaf|verzonden (?:met|vanaf)|skickat från"
    r"|sendt fra|wysłane z|wysłano z|отправлено (?:с|из)|lähetetty|odesláno z|発信|나의 .{0,20}에서"
    r"|发自我的|從我的)\b.{0,80}"
)


#: What a line that matters begins with, beside those that have a colon somewhere.
_MARKS = frozenset(" \t>-_=")
#: The end of a line before such a one, or behind a blank.
_MARKED = re.compile(r"\n(?:[ \t>_=-]|(?<=[^\S\n]\n))")


def split_reply(text: str, limit: int = 1024 * 1024) -> tuple[str, str]:
    """Return the reply in ``text``, and the signature that ended it.

    :param text: lines ended by LF.
    :param limit: characters of ``text`` that are searched, to the end of a line; the rest stays.
    """
    cut = text.find("\n", limit)
    text, rest = (text, "") if cut < 0 else (text[:cut], text[cut:])
    if ":" in text or "：" in text or text[:1] in _MARKS or rest or _MARKED.search(text):
        return split_lines(text.split("\n"), rest)
    # No line is other than it will be, and none can end the reply: a third of the time of a look at
    # each (4 µs for 5 KB, not 13).
    return _without_device(text.rstrip())


def split_lines(lines: Sequence[str], rest: str = "") -> tuple[str, str]:
    """Return what :func:`split_reply` does, by a look at each line.

    :param rest: what follows the lines, unread.
    """
    kept: list[str] = []
    written = 0
    for number, line in enumerate(lines):
        if ":" not in line and "：" not in line and line[:1] not in _MARKS:
            # Most lines: nothing but a colon or a mark at the beginning can end a reply.
            kept.append(line)
            written += line != ""
            continue
        stripped = line.strip()
        if not stripped:
            kept.append("")
            continue
        if stripped[0] == ">":
            continue
        if _FORWARDED.search(stripped[:_LOOKED_AT].lower()):
            return _without_signature([*kept, *lines[number:]], rest)
        if folded := _attribution(lines, number):
            # The line before a quotation goes with it; one before unquoted text ends the reply
            # only if there is a reply above it.
            above = folded - 1
            written -= above
            del kept[len(kept) - above :]
            if written and not _quoted(lines, number + 1):
                return _without_signature(kept)
        elif written and _history(lines, number, stripped):
            return _without_signature(kept)
        else:
            kept.append(line)
            written += 1
    return _without_signature(kept, rest)


def _attribution(lines: Sequence[str], number: int) -> int:
    """Return how many lines the "On … wrote:" takes that ends at ``number``, or 0."""
    line = lines[number].strip()
    if line[-1] not in ":：":
        return 0
    starts: list[str] = []
    for above in reversed(lines[max(0, number - _FOLDED + 1) : number + 1]):
        above = above.strip()
        if not above or above[0] == ">":
            break
        starts.append(above[:_LOOKED_AT].lower())
    unsure = 0
    if _said(" ".join(reversed(starts)), line):
        for count in range(1, len(starts) + 1):
            said = _said(" ".join(reversed(starts[:count])), line)
            if said == "surely" or (said == "wrote" and starts[count - 1].startswith(_OPENERS)):
                return count
            unsure = unsure or (count if said else 0)
    # Without a known beginning it may be a sentence: only a quotation decides.
    return unsure if unsure and _quoted(lines, number + 1) else 0


def _said(text: str, line: str) -> str:
    """Say whether a text says who wrote: ``surely``, ``wrote``, ``perhaps``, or not.

    :param line: the last line of the text.
    """
    year = _YEAR.search(text)
    if year and _ADDRESS.search(text, year.end()):
        return "surely"
    if not (_DIGIT.search(text) or "@" in text):
        return ""
    if _WROTE.search(text):
        return "wrote"
    # Gmail's line in some languages has a date, a name and an address, but no verb.
    return "perhaps" if line.endswith(">:") and _DIGIT.search(text) else ""


def _quoted(lines: Sequence[str], number: int) -> bool:
    """Say whether the next line with text is a quoted one."""
    for line in lines[number : number + 4]:
        if stripped := line.lstrip():
            return stripped[0] == ">"
    return False


def _history(lines: Sequence[str], number: int, stripped: str) -> bool:
    """Say whether a history without quotation marks begins at ``number``."""
    first = stripped[0]
    if first in "-_=" and stripped[:3] == first * 3 or stripped[:2] == "--":
        words = stripped[:_LOOKED_AT].strip("-_= ").lower()
        if words:
            return words in _ORIGINAL
        # A bare rule: history if Outlook's block follows it.
        return any(
            _outlook(lines, below)
            for below in range(number + 1, min(number + 3, len(lines)))
            if lines[below].strip()
        )
    return ":" in stripped[:40] and _outlook(lines, number)


def _outlook(lines: Sequence[str], number: int) -> bool:
    if not _FROM.match(lines[number].strip()[:_LOOKED_AT].lower()):
        return False
    following = (line.strip()[:_LOOKED_AT].lower() for line in lines[number + 1 : number + 6])
    return sum(1 for line in following if _FOLLOWING.match(line)) >= 2


def _without_signature(lines: list[str], rest: str = "") -> tuple[str, str]:
    """Return text and signature (RFC 3676 section 4.3: after a line of "-- ")."""
    lines = list(map(str.rstrip, lines))
    for number, line in enumerate(lines):
        # The separator's space is often lost on the way.
        if line == "--" and any(lines[:number]):
            return _joined(lines[:number]), _joined(lines[number + 1 :], rest)
    return (_joined(lines, rest), "") if rest else _without_device("\n".join(lines).rstrip("\n"))


def _without_device(text: str) -> tuple[str, str]:
    """Return text and signature, where only the last line may be one: a telephone's.

    :param text: without blanks at the end of any line.
    """
    above, newline, last = text.rpartition("\n")
    if newline and _DEVICE.fullmatch(last.strip()[:_LOOKED_AT].lower()):
        return above.strip("\n"), last.strip()
    return text.strip("\n"), ""


def _joined(lines: Sequence[str], rest: str = "") -> str:
    return ("\n".join(lines) + rest).strip("\n")
