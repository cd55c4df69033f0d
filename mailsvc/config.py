"""A TOML file to :class:`~mailsvc.settings.Settings`, every problem with its file, line and key.

Each section is converted alone, so one reading reports the first problem of every section and every
name that leads nowhere.  Reading depends on the file alone; whether the files that it names can be
read is asked by :func:`mailsvc.configcheck.check`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mailsvc.conversion import Fault, convert_table, keys_of
from mailsvc.destinations import make_destination
from mailsvc.doubts import doubts
from mailsvc.errors import ConfigError
from mailsvc.interfaces import IDelivererFactory
from mailsvc.patterns import Expression, parse_pattern
from mailsvc.places import Places
from mailsvc.quickstart import quick
from mailsvc.routing import Rule
from mailsvc.settings import (
    DEFAULT_SPOOL,
    Auth,
    Destination,
    Http,
    Limits,
    Listener,
    Notifications,
    RouteKeys,
    Settings,
    Tls,
)
from mailsvc.spelling import did_you_mean
from mailsvc.vetting import (
    endpoint_fault,
    endpoint_parts,
    goes_in_clear,
    hostname_fault,
    url_fault,
)

__all__ = ["load", "quick", "read", "rule_of"]

S = TypeVar("S")

_DESTINATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_TABLES: Mapping[str, type] = {
    "tls": Tls,
    "auth": Auth,
    "limits": Limits,
    "notifications": Notifications,
    "http": Http,
}
_ARRAYS: Mapping[str, type] = {"listener": Listener, "route": RouteKeys}
_TOP = ("hostname", "spool", *_TABLES, *_ARRAYS, "destination")


def load(
    path: str, kinds: Mapping[str, IDelivererFactory], broken: Sequence[object] = ()
) -> Settings:
    """Return the settings that a file holds.

    :param kinds: the kinds of destination that are installed.
    :param broken: for each plugin module that could not be imported, what says why as a
        text; shown where a kind is unknown.
    :raises ConfigError: with the first problem of every section and every dangling name.
    """
    try:
        with open(path, "rb") as file:
            octets = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        # Some editors put a byte order mark before the text.
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8") from None
    return read(text, path, kinds, broken)


def read(
    text: str, path: str, kinds: Mapping[str, IDelivererFactory], broken: Sequence[object] = ()
) -> Settings:
    """Return the settings that a text holds; see :func:`load`.

    :param path: the name that problems show.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(str(error), path, text)) from None
    return _Reading(Places(path, text), kinds, broken).settings(data)


def _syntax(message: str, path: str, text: str) -> str:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    if found is None:
        return f"{path}:1: this is not TOML: {message}"
    last = max(1, len(text.splitlines()))
    place = f"{path}:{found[2] or last}"
    column = f"column {found[3]}" if found[3] else "end of file"
    return f"{place}: {column}: this is not TOML: {found[1]}"


@dataclass
class _Reading:
    """One reading of one file: what was found wrong so far."""

    places: Places
    kinds: Mapping[str, IDelivererFactory]
    broken: Sequence[object]
    problems: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)

    def fault(self, section: str, key: str, text: str) -> None:
        line = self.places.line(section, key)
        self.problems.append((line, self.places.problem(section, key, text)))

    def warn(self, section: str, key: str, text: str) -> None:
        line = self.places.line(section, key)
        self.warnings.append((line, self.places.problem(section, key, text)))

    def settings(self, data: Mapping[str, object]) -> Settings:
        for key in data:
            if key not in _TOP:
                self.fault("", key, _unknown_at_top(key))
        hostname = self._hostname(data)
        spool = data.get("spool", DEFAULT_SPOOL)
        if not isinstance(spool, str) or not spool:
            self.fault("", "spool", "must be a directory's path, in quotes")
        tls = self._table(data, "tls", Tls)
        auth = self._table(data, "auth", Auth)
        limits = self._table(data, "limits", Limits)
        notifications = self._table(data, "notifications", Notifications)
        http = self._http(self._table(data, "http", Http))
        destinations = self._destinations(data)
        listeners = self._array(data, "listener", Listener)
        self._listeners(listeners, tls, auth)
        self._required_tls(listeners, destinations)
        routes = self._array(data, "route", RouteKeys)
        names = _names(data)
        rules = tuple(
            rule for index, keys in routes if (rule := self._rule(index, keys, names)) is not None
        )
        if notifications is not None:
            self._dangling("notifications", notifications.deliver, names)
        # What has a problem of its own is as if it were not there.
        settings = Settings(
            hostname=hostname,
            spool=spool if isinstance(spool, str) else DEFAULT_SPOOL,
            listeners=tuple(each for _, each in listeners),
            tls=tls or Tls(),
            auth=auth or Auth(),
            limits=limits or Limits(),
            destinations=destinations,
            routes=tuple(each for _, each in routes),
            rules=rules,
            notifications=notifications or Notifications(),
            http=http or Http(),
            places=self.places,
        )
        if self.problems:
            raise ConfigError(*(line for _, line in sorted(self.problems)), readable=settings)
        for doubt in doubts(listeners, routes, settings):
            self.warn(*doubt)
        return replace(settings, warnings=tuple(line for _, line in sorted(self.warnings)))

    def _hostname(self, data: Mapping[str, object]) -> str:
        hostname = data.get("hostname")
        if hostname is None:
            self.fault("", "hostname", 'is missing: the name of this server, "mx.example.com"')
        elif not isinstance(hostname, str):
            self.fault("", "hostname", "must be a text in quotes")
        elif fault := hostname_fault(hostname):
            self.fault("", "hostname", fault)
        else:
            return hostname
        return ""

    def _table(self, data: Mapping[str, object], name: str, struct: type[S]) -> S | None:
        table = data.get(name, {})
        if not isinstance(table, dict):
            self.fault(name, "", f"must be one table: write [{name}]")
            return None
        return self._convert(name, table, struct)

    def _array(self, data: Mapping[str, object], name: str, struct: type[S]) -> list[tuple[int, S]]:
        """Return the tables of an array that fit, with their numbers."""
        tables = data.get(name)
        if tables is None:
            self.fault("", "", f"there is no [[{name}]]: at least one is needed")
            return []
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.fault(name, "", f"is an array of tables: write [[{name}]]")
            return []
        found = [
            (index, self._convert(f"{name}.{index}", table, struct))
            for index, table in enumerate(tables)
        ]
        return [(index, each) for index, each in found if each is not None]

    def _convert(self, section: str, table: Mapping[str, object], struct: type[S]) -> S | None:
        try:
            return convert_table(table, struct)
        except Fault as fault:
            self.fault(section, fault.key, fault.text)
            return None

    def _http(self, http: Http | None) -> Http | None:
        if http is not None:
            if http.endpoint and (fault := endpoint_fault(http.endpoint)):
                self.fault("http", "endpoint", fault)
            elif http.base_url and (fault := url_fault(http.base_url)):
                self.fault("http", "base_url", fault)
            elif http.base_url and not http.endpoint:
                self.fault("http", "base_url", "needs the key endpoint, where it is served")
        return http

    def _listeners(
        self, listeners: Sequence[tuple[int, Listener]], tls: Tls | None, auth: Auth | None
    ) -> None:
        seen: dict[str, int] = {}
        for index, listener in listeners:
            section = f"listener.{index}"
            for key, fault in _listener_faults(listener, tls, auth):
                self.fault(section, key, fault)
                break
            else:
                first = seen.setdefault(listener.endpoint, index)
                # Port 0 is another one each time.
                if first != index and not re.match(r"tcp6?:(port=)?0(:|$)", listener.endpoint):
                    place = self.places.locate(f"listener.{first}", "endpoint")
                    self.fault(section, "endpoint", f"{place} listens there already")

    def _required_tls(
        self, listeners: Sequence[tuple[int, Listener]], destinations: Mapping[str, Destination]
    ) -> None:
        """REQUIRETLS is not announced where mail would go on in clear (RFC 8689 section 4.2.1)."""
        clear = [
            name
            for name, each in destinations.items()
            if goes_in_clear(getattr(each.options, "url", ""))
        ]
        for index, listener in listeners:
            if listener.requiretls and listener.tls != "none" and clear:
                text = f"cannot be kept: mail to {clear[0]!r} goes on without TLS"
                self.fault(f"listener.{index}", "requiretls", text)

    def _destinations(self, data: Mapping[str, object]) -> dict[str, Destination]:
        tables = data.get("destination", {})
        if not isinstance(tables, dict) or _is_destination(tables):
            self.fault("destination", "", "each destination has a name: write [destination.NAME]")
            return {}
        found = {}
        for name, table in tables.items():
            if not _DESTINATION.fullmatch(name):
                self.fault(
                    f"destination.{name}",
                    "",
                    f"{name!r} is no name: letters, digits, - and _, at most 64",
                )
            elif not isinstance(table, dict):
                self.fault("destination", name, f"must be a table: write [destination.{name}]")
            else:
                destination = self._destination(name, table)
                if destination is not None:
                    found[name] = destination
        return found

    def _destination(self, name: str, table: Mapping[str, object]) -> Destination | None:
        section = f"destination.{name}"
        try:
            return make_destination(name, table, self.kinds, self.broken)
        except Fault as fault:
            self.fault(section, fault.key, fault.text)
            return None

    def _rule(self, index: int, keys: RouteKeys, names: Sequence[str]) -> Rule | None:
        section = f"route.{index}"
        self._dangling(section, keys.deliver, names)
        try:
            patterns = [parse_pattern(text, keys.domains) for text in keys.to]
        except ValueError as error:
            self.fault(section, "to", str(error))
            return None
        if keys.domains and not any(isinstance(each, Expression) for each in patterns):
            self.fault(section, "domains", "is for regular expressions; the patterns name theirs")
        elif keys.mode == "sync" and len(set(keys.deliver)) > 1:
            self.fault(section, "deliver", "a sync route has one destination: its answer decides")
        elif keys.check_url and (fault := url_fault(keys.check_url)):
            self.fault(section, "check_url", fault)
        return rule_of(keys, self.places.locate(section))

    def _dangling(self, section: str, deliver: Sequence[str], names: Sequence[str]) -> None:
        for name in dict.fromkeys(deliver):
            if name not in names:
                hint = did_you_mean(name, names)
                if not hint:
                    hint = f" (there are: {', '.join(names)})" if names else " (there are none)"
                self.fault(section, "deliver", f"there is no destination {name!r}{hint}")


def rule_of(keys: RouteKeys, place: str) -> Rule:
    """Return a route of the file as the router takes it."""
    return Rule(
        patterns=tuple(keys.to),
        destinations=tuple(dict.fromkeys(keys.deliver)),
        # A plain number: it goes into the envelopes that the spool stores.
        max_size=None if keys.max_size is None else int(keys.max_size),
        auth_required=keys.auth == "required",
        sync=keys.mode == "sync",
        check_url=keys.check_url,
        domains=keys.domains,
        place=place,
    )


def _names(data: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of all destinations, those with a problem of their own included."""
    tables = data.get("destination")
    return tuple(tables) if isinstance(tables, dict) and not _is_destination(tables) else ()


def _is_destination(tables: Mapping[str, object]) -> bool:
    """Say whether somebody wrote ``[destination]`` in place of ``[destination.NAME]``."""
    return isinstance(tables.get("kind"), str)


def _unknown_at_top(key: str) -> str:
    homes = [f"[{name}]" for name, struct in _TABLES.items() if key in keys_of(struct)]
    homes += [f"[[{name}]]" for name, struct in _ARRAYS.items() if key in keys_of(struct)]
    if homes:
        return f"unknown key here; it belongs under {' or '.join(homes)}"
    return f"unknown key{did_you_mean(key, _TOP)}"


def _listener_faults(
    listener: Listener, tls: Tls | None, auth: Auth | None
) -> Iterator[tuple[str, str]]:
    """Yield each key of a listener that cannot work, with the reason."""
    if fault := endpoint_fault(listener.endpoint):
        yield "endpoint", fault
    words, keys = endpoint_parts(listener.endpoint)
    port = keys.get("port", words[1] if len(words) > 1 else "")
    if listener.role == "lmtp" and words[0] in ("tcp", "tcp6") and port == "25":
        # RFC 2033 section 5.
        yield "endpoint", "LMTP must not use port 25, which is SMTP's"
    if listener.tls != "none" and tls is not None and not tls.certificates:
        yield "tls", f'"{listener.tls}" needs the key certificates under [tls]'
    if listener.role == "submission" and auth is not None and tls is not None:
        if not auth.configured and not (tls.client_ca and listener.tls != "none"):
            yield "role", "a submission listener needs the key users or checkers under [auth]"
    if listener.tls == "none" and listener.requiretls:
        yield "requiretls", "needs TLS on this listener"
