"""What synchronous routes answered, in the rows: for senders who repeat a mail."""

from __future__ import annotations

import sqlite3

from mailsvc.spool.rows import Transaction
from mailsvc.spool.view import Answer, AnswerKey


def remember_answer(transaction: Transaction, key: AnswerKey, answer: Answer) -> None:
    """Keep what a synchronous route answered."""
    transaction.connection.execute(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET code = excluded.code, text = excluded.text,"
        " delivery_id = excluded.delivery_id, until = excluded.until",
        (
            key.reverse_path,
            key.recipient,
            key.sha256,
            answer.code,
            answer.text,
            answer.delivery_id,
            answer.until,
        ),
    )


def name_delivery(transaction: Transaction, key: AnswerKey, id_: str, until: float) -> None:
    """Keep the id of a synchronous route's delivery whose message is about to be stored.

    That of a mail that was asked about before goes by the id that it had then.

    :param until: for how long a repeat of the same mail is known as one.
    """
    known = answer_for(transaction.connection, key, transaction.now)
    if known is None:
        remember_answer(transaction, key, Answer(0, "", id_, until))
        return
    if not known.code:
        remember_answer(transaction, key, Answer(0, "", known.delivery_id, until))
    message_id = id_.rpartition("-")[0]
    # The row that schema.py describes: see Transaction.claim.
    name = AnswerKey("", id_, b"")
    remember_answer(transaction, name, Answer(0, message_id, known.delivery_id, until))


def forget_answers(transaction: Transaction) -> None:
    """Delete the answers whose time is over; a message that is there still keeps its name."""
    transaction.connection.execute(
        "DELETE FROM answers WHERE until <= ? AND (sha256 != x''"
        " OR NOT EXISTS (SELECT 1 FROM messages WHERE id = answers.text))",
        (transaction.now,),
    )


def answer_for(connection: sqlite3.Connection, key: AnswerKey, now: float) -> Answer | None:
    """Return what a synchronous route answered to the same mail before."""
    row = connection.execute(
        "SELECT code, text, delivery_id, until FROM answers"
        " WHERE reverse_path = ? AND recipient = ? AND sha256 = ? AND until > ?",
        (key.reverse_path, key.recipient, key.sha256, now),
    ).fetchone()
    return Answer(*row) if row else None
