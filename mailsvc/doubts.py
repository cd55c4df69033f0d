"""What works in a configuration but is likely not meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailsvc.routing import shadowed
from mailsvc.settings import POSTMASTER, Listener, RouteKeys, Settings
from mailsvc.vetting import is_loopback


def doubts(
    listeners: Sequence[tuple[int, Listener]],
    routes: Sequence[tuple[int, RouteKeys]],
    settings: Settings,
) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and text of each.

    :param listeners: with their numbers in the file; so are ``routes``.
    """
    auth, limits, rules = settings.auth, settings.limits, settings.rules
    for index, listener in listeners:
        if is_loopback(listener.endpoint) or listener.tls != "none":
            continue
        if auth.configured and auth.cleartext:
            yield "auth", "cleartext", f"passwords cross {listener.endpoint} unprotected"
        elif listener.role == "submission":
            yield (
                f"listener.{index}",
                "tls",
                "a submission listener without TLS: PLAIN and LOGIN are not offered on it",
            )
    for index, route in routes:
        if route.max_size is not None and route.max_size > limits.message_size:
            yield f"route.{index}", "max_size", "is above [limits] message_size"
        for key in ("allow_private", "allow_networks", "ca_file"):
            if getattr(route, key) and not route.check_url:
                yield (
                    f"route.{index}",
                    key,
                    "is for check_url, which this route does not have; a destination has its own",
                )
    for number, pattern, by in shadowed(rules):
        place = f" ({by.rule.place})" if by.rule.place else ""
        yield (
            f"route.{routes[number][0]}",
            "to",
            f"{pattern} is never reached: {by.route.name}{place} comes first",
        )
    used = {name for rule in rules for name in rule.destinations}
    used |= {*settings.notifications.deliver, POSTMASTER}
    for name in settings.destinations:
        if name not in used:
            yield f"destination.{name}", "", "no route delivers there"
