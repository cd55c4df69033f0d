"""DATA (RFC 5321 section 4.1.1.4) and BDAT (RFC 3030): the content and its framing."""

from __future__ import annotations

import re
from typing import cast

from mailsvc.message import Reply
from mailsvc.smtp import replies
from mailsvc.smtp.content import Chunk, Content
from mailsvc.smtp.conversation import Conversation
from mailsvc.smtp.questions import Answer, ContentEnded, ContentReceived, ContentStarted
from mailsvc.smtp.states import ORDER, Move, Phase, State

_ACCEPTED = Reply(250, "Message accepted", "2.0.0")
# Twenty digits are more than any size; what is longer is refused before it becomes a number.
_BDAT = re.compile(rb"([0-9]{1,20})(?: (LAST))?", re.IGNORECASE)


def data(talk: Conversation, argument: bytes) -> None:
    """Do DATA, RFC 5321 section 4.1.1.4."""
    if argument:
        talk.error(replies.NO_ARGUMENT)
    elif talk.body == "BINARYMIME":
        # RFC 3030 section 3: it cannot be framed by a dot.
        talk.error(replies.BINARY_NEEDS_BDAT)
    else:
        talk.ask(ContentStarted(stuffed=True), _data_answered)


def _data_answered(talk: Conversation, answer: Answer) -> None:
    if answer is not None:
        # The transaction stands: only the end of content would have ended it.
        talk.say(cast(Reply, answer))
        return
    talk.send(replies.SEND_CONTENT)
    talk.content = _begin(talk, stuffed=True)
    talk.phase = Phase.CONTENT


def bdat(talk: Conversation, argument: bytes) -> None:
    """Do BDAT, RFC 3030 section 2: its octets follow at once, and are read whatever the reply."""
    match = _BDAT.fullmatch(argument)
    if match is None:
        # Where the chunk ends is unknown, so no command can be read behind it.
        talk.end(replies.BAD_CHUNK)
        return
    octets = int(match[1])
    chunk = talk.chunk = Chunk(octets, octets, match[2] is not None)
    refusal = ORDER[b"BDAT"][talk.state]
    if refusal is not None:
        chunk.refusal = _for_each(talk, chunk, refusal)
        chunk.bad = True
        _expect(talk, chunk)
    elif talk.content is None:
        talk.ask(ContentStarted(stuffed=False), _bdat_answered)
    else:
        _announce(talk, talk.content, chunk)


def _bdat_answered(talk: Conversation, answer: Answer) -> None:
    chunk = talk.chunk
    assert chunk is not None
    if isinstance(answer, Reply) and answer.code == 421:
        talk.say(answer)
    elif isinstance(answer, Reply):
        chunk.refusal = _for_each(talk, chunk, answer.encode(utf8=talk.utf8))
        talk.move(Move.CHUNK_REFUSED)
        _expect(talk, chunk)
    else:
        talk.content = _begin(talk, stuffed=False)
        _announce(talk, talk.content, chunk)


def _for_each(talk: Conversation, chunk: Chunk, octets: bytes) -> bytes:
    """Return the reply to a refused chunk: on LMTP the last one has one for each recipient.

    RFC 2033 section 4.3: a client counts them, if an earlier chunk was refused, too.  Without any
    recipient there is one all the same (requirement 1).
    """
    each = chunk.last and talk.policy.role == "lmtp"
    return octets * talk.recipients if each and talk.recipients else octets


def _begin(talk: Conversation, *, stuffed: bool) -> Content:
    policy = talk.policy
    return Content(
        stuffed=stuffed,
        binary=talk.body == "BINARYMIME",
        repair=policy.bare_newline == "repair",
        limits=(policy.message_size, talk.ceiling),
        header_limit=policy.header_size,
        hop_limit=policy.hops,
    )


def _announce(talk: Conversation, content: Content, chunk: Chunk) -> None:
    """Judge the chunk by its size before the first octet of it is kept."""
    content.announce(chunk.octets)
    if content.fault() is not None:
        talk.drop_content()
    _expect(talk, chunk)


def _expect(talk: Conversation, chunk: Chunk) -> None:
    if chunk.left:
        talk.phase = Phase.CONTENT
    else:
        _chunk_over(talk, chunk)


def read(talk: Conversation) -> None:
    """Read the held input as content."""
    content = talk.content
    chunk = talk.chunk
    if chunk is not None:
        start = talk.at
        talk.at = stop = min(len(talk.data), start + chunk.left)
        chunk.left -= stop - start
        if not chunk.refusal and content is not None:
            whole = start == 0 and stop == len(talk.data)
            _store(talk, content, talk.data if whole else talk.data[start:stop])
        if not chunk.left:
            _chunk_over(talk, chunk)
        return
    assert content is not None and content.framing is not None
    octets, end = content.framing.take(talk.data, talk.at)
    _store(talk, content, octets)
    if end < 0:
        talk.at = len(talk.data)
    else:
        talk.at = end
        talk.phase = Phase.COMMAND
        _content_over(talk, content)


def _store(talk: Conversation, content: Content, octets: bytes) -> None:
    """Measure the octets and hand them on, or drop the content once it is refused."""
    kept = content.add(octets) if octets else b""
    if content.dropped:
        return
    if content.fault() is not None:
        talk.drop_content()
    elif kept:
        talk.tell(ContentReceived(kept, content.new_dots()))


def _chunk_over(talk: Conversation, chunk: Chunk) -> None:
    """Answer a BDAT command whose last octet was read."""
    talk.chunk = None
    talk.phase = Phase.COMMAND
    content = talk.content
    if chunk.refusal:
        if chunk.last and talk.state is State.SPOILT:
            # What the client sends next belongs to its next message.
            talk.reset()
        if chunk.bad:
            talk.error(chunk.refusal)
        else:
            talk.send(chunk.refusal)
        return
    assert content is not None
    if chunk.last:
        _content_over(talk, content)
        return
    fault = content.fault()
    if fault is not None:
        talk.send(fault)
        talk.move(Move.CHUNK_REFUSED)
    else:
        talk.say(Reply(250, f"{chunk.octets} octets received", "2.0.0"))
        talk.move(Move.CHUNK_ACCEPTED)


def _content_over(talk: Conversation, content: Content) -> None:
    """Judge the content: all octets of it were read."""
    content.complete = True
    rest = content.end()
    fault = content.fault()
    if fault is not None:
        talk.send_each(fault)
        talk.reset()
        return
    if rest:
        talk.tell(ContentReceived(rest))
    talk.ask(ContentEnded(), _ended)


def _ended(talk: Conversation, answer: Answer) -> None:
    lmtp = talk.policy.role == "lmtp"
    if isinstance(answer, tuple):
        if not lmtp or len(answer) != talk.recipients:
            raise ValueError("a tuple of replies is for LMTP, one for each accepted recipient")
        given = answer
    else:
        reply = _ACCEPTED if answer is None else cast(Reply, answer)
        given = (reply,) * talk.recipients if lmtp else (reply,)
    utf8 = talk.utf8
    talk.finish()
    for reply in given:
        if reply.code < 300:
            talk.errors = talk.refused = 0
        elif reply.code == 421:
            talk.say(reply)
            return
        talk.send(replies.octets(reply, utf8=utf8))
