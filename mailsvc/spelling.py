"""The nearest known word for a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that looks most like ``word``, or None if none looks like it."""
    by_form = {_form(each): each for each in known}
    found = get_close_matches(_form(word), by_form, n=1, cutoff=0.6)
    return by_form[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or nothing if no known word comes near."""
    found = nearest(word, known)
    return f"; did you mean {found!r}?" if found is not None else ""


def _form(word: str) -> str:
    return word.lower().replace("-", "_")
