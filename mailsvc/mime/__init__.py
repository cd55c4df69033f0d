"""Message octets to parsed mail, bounded in time and memory.

:mod:`~mailsvc.mime.parser` decides where a mail is parsed (a thread, or a worker process that can
be killed); :mod:`~mailsvc.mime.mail` does it, on :mod:`~mailsvc.mime.parts` (the tree of parts),
:mod:`~mailsvc.mime.fields` (header fields), :mod:`~mailsvc.mime.charsets` and
:mod:`~mailsvc.mime.reply` (quoted history).  Nothing is imported here, so that a worker process
starts without Twisted.
"""
