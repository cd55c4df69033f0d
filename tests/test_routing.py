"""Routing: which recipient goes where, and which is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsvc.errors import Refused
from mailsvc.interfaces import IRouter, ISender
from mailsvc.message import Address, Route
from mailsvc.patterns import (
    Domain,
    Everything,
    Exact,
    Expression,
    Pattern,
    Postmaster,
    SubDomains,
    Tagged,
    canonical_domain,
    canonical_local,
    parse_address,
    parse_pattern,
    tag_of,
    unicode_domain,
)
from mailsvc.routing import Router, Rule, entries_of, shadowed


@implementer(ISender)
class Somebody:
    """A sender, authenticated or not."""

    def __init__(self, identity: str | None = None) -> None:
        self.identity = identity

    def may_send_as(self, address: Address | None) -> bool:
        return True


def rule(*patterns: str, to: str = "box", auth: bool = False, domains: Sequence[str] = ()) -> Rule:
    return Rule(patterns, (to,), auth_required=auth, domains=tuple(domains))


class PatternTests(SynchronousTestCase):
    def test_forms(self) -> None:
        cases: dict[str, Pattern] = {
            "Support@Example.COM": Exact("support", "example.com"),
            '"A b"@example.com': Exact("a b", "example.com"),
            r'"a\"b"@example.com': Exact('a"b', "example.com"),
            "a%b@example.com": Exact("a%b", "example.com"),
            '"a@b"@example.com': Exact("a@b", "example.com"),
            "support+*@example.com": Tagged("support", "example.com"),
            "support+sales@example.com": Exact("support+sales", "example.com"),
            "example.com": Domain("example.com"),
            "*@example.com": Domain("example.com"),
            "*@Bücher.example": Domain("xn--bcher-kva.example"),
            "*.example.com": SubDomains("example.com"),
            "*@*.example.com": SubDomains("example.com"),
            "*@localhost": Domain("localhost"),
            "u@[192.0.2.1]": Exact("u", "[192.0.2.1]"),
            "[IPv6:2001:DB8:0::1]": Domain("[ipv6:2001:db8::1]"),
            "postmaster": Postmaster(),
            "Postmaster": Postmaster(),
            "*": Everything(),
        }
        for text, meaning in cases.items():
            self.assertEqual(parse_pattern(text), meaning, text)

    def test_expression(self) -> None:
        found = parse_pattern("/x-.*@.*/", ["Example.com"])
        assert isinstance(found, Expression)
        self.assertEqual(found.domains, frozenset({"example.com"}))
        self.assertTrue(found.regex.flags & re.IGNORECASE)

    def test_no_pattern(self) -> None:
        cases = {
            "support": "is no pattern",
            "": "is no pattern",
            " a@b.c": "spaces",
            "a b@example.com": "needs quotes",
            "@example.com": "needs quotes, or is empty",
            'a"b@example.com': "needs quotes",
            "sup*@example.com": "regular expression between slashes",
            "*+*@example.com": "regular expression between slashes",
            "+*@example.com": "regular expression between slashes",
            "a@*.example.com": "write *@*.example.com",
            "a@exa mple.com": "is not a domain",
            "a@": "is not a domain",
            "a@b..c": "is not a domain",
            "a@\u2603\u200b..": "is not a domain",
            "u@[300.0.0.1]": "is not a domain",
            "/x": "between two slashes",
            "//": "between two slashes",
            "/x/": "needs the key domains",
        }
        for text, message in cases.items():
            error = self.assertRaises(ValueError, parse_pattern, text)
            self.assertIn(message, str(error), text)

    def test_broken_expression(self) -> None:
        error = self.assertRaises(ValueError, parse_pattern, "/(/", ["a.b"])
        self.assertIn("is not a regular expression: missing )", str(error))
        error = self.assertRaises(ValueError, parse_pattern, "/x/", ["a b"])
        self.assertIn("'a b' is not a domain", str(error))

    def test_addresses_of_people(self) -> None:
        for text, address in {
            "a@b.c": Address("a", "b.c"),
            "<a@b.c>": Address("a", "b.c"),
            '"x y"@b.c': Address("x y", "b.c"),
            r'"x\"y@z"@b.c': Address('x"y@z', "b.c"),
            "Postmaster": Address("Postmaster", ""),
        }.items():
            self.assertEqual(parse_address(text), address)
        for text in ("", "a", "@b", "a@", "a@b c"):
            self.assertRaises(ValueError, parse_address, text)

    def test_canonical_forms(self) -> None:
        self.assertEqual(canonical_local("MÜller"), "müller")
        self.assertEqual(canonical_local("mu\u0308ller"), "müller")
        self.assertEqual(canonical_local("STRASSE"), "strasse")
        self.assertEqual(canonical_domain("BÜCHER.example"), "xn--bcher-kva.example")
        self.assertEqual(canonical_domain("XN--BCHER-KVA.example"), "xn--bcher-kva.example")
        self.assertEqual(canonical_domain("a" * 300), "")
        self.assertEqual(canonical_domain("é..example"), "")
        self.assertEqual(canonical_domain("[x-new:thing]"), "[x-new:thing]")
        self.assertEqual(canonical_domain("[thing"), "")
        self.assertEqual(unicode_domain("xn--bcher-kva.example"), "bücher.example")
        self.assertEqual(unicode_domain("xn--\x80.example"), "xn--\x80.example")
        self.assertEqual([tag_of(each) for each in ("a+b+c", "a", "+a", "a+")], ["b+c", "", "", ""])


class RouterTests(SynchronousTestCase):
    def router(self, *rules: Rule, hostname: str = "mx.example.com") -> Router:
        return Router(rules, hostname)

    def route(self, router: Router, text: str, user: str | None = None) -> Route:
        return router.route(parse_address(text), Somebody(user))

    def refusal(self, router: Router, text: str, user: str | None = None) -> str:
        address = parse_address(text)
        refused = self.assertRaises(Refused, router.find, address, authenticated=user is not None)
        return f"{refused.reply.code} {refused.reply.status}"

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IRouter, self.router()))

    def test_exact(self) -> None:
        router = self.router(rule("support@example.com"))
        self.assertEqual(self.route(router, "SUPPORT@Example.Com").name, "support@example.com")
        self.assertEqual(self.refusal(router, "support+x@example.com"), "550 5.1.1")

    def test_tags(self) -> None:
        router = self.router(rule("support+*@example.com"))
        self.assertEqual(self.route(router, "Support+Sales+EU@example.com").tag, "Sales+EU")
        self.assertEqual(self.route(router, "support+@example.com").tag, "")
        self.assertEqual(self.refusal(router, "support@example.com"), "550 5.1.1")

    def test_a_broad_route_knows_the_tag(self) -> None:
        router = self.router(rule("example.com"), rule("*"))
        self.assertEqual(self.route(router, "u+t@example.com").tag, "t")
        self.assertEqual(self.route(router, "u+t@elsewhere.test").tag, "t")

    def test_sub_domains(self) -> None:
        router = self.router(rule("*@*.example.com"))
        self.assertEqual(self.route(router, "u@a.b.example.com").name, "*@*.example.com")
        self.assertEqual(self.refusal(router, "u@example.com"), "550 5.7.1")
        self.assertEqual(self.refusal(router, "u@notexample.com"), "550 5.7.1")
        self.assertTrue(router.owns("x.example.com"))
        self.assertEqual(router.parent_domains, {"example.com"})

    def test_the_nearest_wildcard_does_not_win_but_the_first(self) -> None:
        router = self.router(
            rule("*.example.com", to="first"), rule("*.deep.example.com", to="second")
        )
        self.assertEqual(self.route(router, "u@x.deep.example.com").destinations, ("first",))

    def test_first_match_wins(self) -> None:
        router = self.router(
            rule("a@example.com", to="1"),
            rule("*@example.com", to="2"),
            rule("b@example.com", to="3"),
            rule("*", to="4"),
        )
        found = [
            self.route(router, text).destinations[0]
            for text in ("a@example.com", "b@example.com", "c@example.com", "c@other.test")
        ]
        self.assertEqual(found, ["1", "2", "2", "4"])

    def test_destinations_are_told_once(self) -> None:
        router = self.router(Rule(("a@example.com",), ("x", "y", "x")))
        self.assertEqual(self.route(router, "a@example.com").destinations, ("x", "y"))

    def test_what_a_rule_says_is_in_the_route(self) -> None:
        router = self.router(
            Rule(("a@b.c",), ("x",), max_size=5, sync=True, check_url="https://check.test/")
        )
        self.assertEqual(
            self.route(router, "a@b.c"),
            Route("a@b.c", ("x",), max_size=5, sync=True, check_url="https://check.test/"),
        )

    def test_a_tag_changes_nothing_else(self) -> None:
        every = Rule(("u+*@b.c",), ("x",), 5, auth_required=True, sync=True, check_url="https://c/")
        route = self.route(self.router(every), "u+t@b.c", "user")
        self.assertEqual(
            route,
            Route("u+*@b.c", ("x",), "t", 5, auth_required=True, sync=True, check_url="https://c/"),
        )

    def test_expressions(self) -> None:
        router = self.router(
            rule(r"/order-(\d+)@shop\.example/", to="orders", domains=["shop.example"]),
            rule(r"/x-(?P<kind>.)-(?P<tag>.*)@.*/", to="x", domains=["shop.example"]),
            rule(r"/plain.*@.*/", to="plain", domains=["shop.example"]),
            rule(r"/opt(ional)?@.*/", to="opt", domains=["shop.example"]),
        )
        self.assertEqual(self.route(router, "Order-12@SHOP.example").tag, "12")
        self.assertEqual(self.route(router, "x-1-two@shop.example").tag, "two")
        self.assertEqual(self.route(router, "plain+t@shop.example").tag, "t")
        self.assertEqual(self.route(router, "opt@shop.example").tag, "")
        self.assertEqual(self.refusal(router, "order-12x@shop.example"), "550 5.1.1")

    def test_an_expression_speaks_for_its_domains_only(self) -> None:
        router = self.router(rule("/.*/", domains=["shop.example"]))
        self.assertEqual(self.refusal(router, "a@other.example"), "550 5.7.1")

    def test_an_expression_sees_no_more_than_an_address(self) -> None:
        router = self.router(rule("/.*/", domains=["shop.example"]))
        self.assertEqual(self.refusal(router, f"{'a' * 320}@shop.example"), "550 5.1.1")

    def test_an_expression_behind_what_matches_already_is_not_tried(self) -> None:
        router = self.router(
            rule("a@shop.example", to="exact"), rule("/.*/", to="regex", domains=["shop.example"])
        )
        self.assertEqual(self.route(router, "a@shop.example").destinations, ("exact",))
        self.assertEqual(self.route(router, "b@shop.example").destinations, ("regex",))

    def test_international_domains(self) -> None:
        for written in ("u@bücher.example", "u@xn--bcher-kva.example", "u@BÜCHER.EXAMPLE"):
            router = self.router(rule(written))
            for asked in ("u@Bücher.example", "U@xn--bcher-kva.example"):
                self.assertEqual(self.route(router, asked).name, written)

    def test_an_expression_may_be_written_in_either_form_of_a_domain(self) -> None:
        for text in (r"/u@bücher\.example/", r"/u@xn--bcher-kva\.example/"):
            router = self.router(rule(text, domains=["bücher.example"]))
            self.assertEqual(self.route(router, "u@Bücher.example").name, text)

    def test_literals(self) -> None:
        router = self.router(rule("u@[IPv6:2001:db8::1]"))
        self.assertEqual(self.route(router, "u@[ipv6:2001:DB8:0:0::1]").destinations, ("box",))

    def test_foreign_and_unknown(self) -> None:
        """Requirement 15: mail for a foreign domain is refused, whoever sends it."""
        router = self.router(rule("a@example.com"))
        self.assertEqual(self.refusal(router, "a@elsewhere.test"), "550 5.7.1")
        self.assertEqual(self.refusal(router, "a@elsewhere.test", "user"), "550 5.7.1")
        self.assertEqual(self.refusal(router, "b@example.com"), "550 5.1.1")
        self.assertEqual(self.refusal(router, "b@mx.example.com"), "550 5.1.1")
        self.assertEqual(self.refusal(router, f"b@{'x' * 300}"), "550 5.7.1")

    def test_a_domain_that_cannot_exist(self) -> None:
        """Not even a catch-all takes it: nothing could be written down for it."""
        router = self.router(rule("*"))
        self.assertEqual(self.refusal(router, "u@é..example"), "550 5.1.1")

    def test_relaying(self) -> None:
        """Requirement 15: %, ! and quoted @ are refused unless an exact route names the address."""
        asked = ("a%b@example.com", "host!a@example.com", '"a@b"@example.com', "x+a%b@example.com")
        router = self.router(
            rule("x+*@example.com"), rule("example.com"), rule("/.*/", domains=["example.com"])
        )
        for text in asked:
            self.assertEqual(self.refusal(router, text), "550 5.7.1", text)
            self.assertEqual(self.refusal(self.router(rule("*")), text, "user"), "550 5.7.1", text)
            self.assertEqual(self.route(self.router(rule(text)), text).name, text)

    def test_source_routes_in_a_local_part(self) -> None:
        """Requirement 15."""
        router = self.router(rule("*"))
        refused = self.assertRaises(
            Refused, router.find, Address("@a.test,@b.test:u", "example.com"), authenticated=True
        )
        self.assertEqual(refused.reply.status, "5.7.1")

    def test_authentication(self) -> None:
        router = self.router(rule("staff@example.com", auth=True), rule("*@example.com"))
        self.assertEqual(self.refusal(router, "staff@example.com"), "530 5.7.0")
        self.assertEqual(self.route(router, "staff@example.com", "u").name, "staff@example.com")

    def test_postmaster_without_a_route(self) -> None:
        """Requirement 14: into the fallback, bare and at each own domain, in any case."""
        router = self.router(
            rule("a@example.com"), rule("/x@.*/", domains=["Regex.example"]), rule("*.sub.example")
        )
        for text in (
            "postmaster",
            "PostMaster",
            "POSTMASTER@example.com",
            "postmaster@regex.example",
        ):
            self.assertEqual(self.route(router, text).destinations, ("postmaster",), text)
        self.assertEqual(self.route(router, "postmaster@x.sub.example").destinations, ("box",))
        self.assertEqual(self.refusal(router, "postmaster@elsewhere.test"), "550 5.7.1")
        self.assertEqual(
            router.falls_back,
            (
                "postmaster",
                "postmaster@example.com",
                "postmaster@mx.example.com",
                "postmaster@regex.example",
            ),
        )

    def test_postmaster_by_its_route(self) -> None:
        """Requirement 14: by its route; the bare one by that of the host name."""
        router = self.router(
            rule("postmaster@example.com", to="mine"), rule("*@mx.example.com", to="host")
        )
        self.assertEqual(self.route(router, "Postmaster@example.com").destinations, ("mine",))
        self.assertEqual(self.route(router, "postmaster").destinations, ("host",))
        self.assertEqual(router.falls_back, ())

    def test_postmaster_pattern(self) -> None:
        """Requirement 14: the pattern stands for every own domain, and for no other."""
        router = self.router(rule("a@example.com"), rule("postmaster", to="people"))
        for text in ("postmaster", "postmaster@example.com", "postmaster@mx.example.com"):
            self.assertEqual(self.route(router, text).destinations, ("people",))
        self.assertEqual(self.refusal(router, "postmaster@elsewhere.test"), "550 5.7.1")

    def test_postmaster_where_the_catch_all_goes(self) -> None:
        """Requirement 14."""
        router = self.router(rule("a@example.com"), rule("*", to="all"))
        self.assertEqual(self.route(router, "postmaster").destinations, ("all",))
        self.assertEqual(self.route(router, "postmaster@example.com").destinations, ("all",))
        self.assertEqual(router.falls_back, ())

    def test_postmaster_from_anyone(self) -> None:
        """Requirement 14: a route for authenticated senders does not close postmaster to others."""
        staff = rule("*@example.com", to="staff", auth=True)
        router = self.router(staff)
        self.assertEqual(self.route(router, "postmaster@example.com").destinations, ("postmaster",))
        self.assertEqual(self.route(router, "postmaster@example.com", "u").destinations, ("staff",))
        self.assertIn("postmaster@example.com", router.falls_back)
        router = self.router(staff, rule("*", to="all"))
        self.assertEqual(self.route(router, "postmaster@example.com").destinations, ("all",))
        self.assertEqual(router.falls_back, ())
        router = self.router(rule("*", to="all", auth=True))
        self.assertEqual(self.route(router, "postmaster").destinations, ("postmaster",))

    def test_postmaster_without_a_fallback(self) -> None:
        router = Router([rule("a@example.com")], "mx.example.com", "")
        self.assertEqual(self.refusal(router, "postmaster"), "550 5.1.1")

    def test_own_domains(self) -> None:
        router = self.router(rule("a@one.test", "b+*@two.test", "three.test"))
        self.assertEqual(
            router.own_domains, {"one.test", "two.test", "three.test", "mx.example.com"}
        )
        self.assertFalse(router.owns_everything)
        self.assertTrue(router.owns(""))
        self.assertFalse(router.owns("four.test"))
        self.assertTrue(self.router(rule("*")).owns("four.test"))

    def test_thousands_of_routes_are_looked_up(self) -> None:
        """No pattern is tried that cannot match: the work does not grow with the routes."""
        router = self.router(
            *(rule(f"user{n}@example.com", to=str(n)) for n in range(5000)),
            *(rule(f"/u{n}/", domains=[f"d{n}.test"]) for n in range(100)),
        )
        self.assertEqual(self.route(router, "user4999@example.com").destinations, ("4999",))
        candidates = list(router._candidates("user4999", "example.com"))
        self.assertEqual(candidates, [])


LOCALS = st.sampled_from(["a", "b", "A", "a+x", "b+", "+x", "a%b", "postmaster", "ü", "u\u0308"])
DOMAINS = st.sampled_from(
    ["one.test", "ONE.test", "x.one.test", "y.x.one.test", "bücher.test", "xn--bcher-kva.test"]
)
PATTERNS = st.one_of(
    st.builds("{}@{}".format, LOCALS, DOMAINS),
    st.builds("{}+*@{}".format, st.sampled_from(["a", "b"]), DOMAINS),
    DOMAINS,
    DOMAINS.map("*@{}".format),
    DOMAINS.map("*@*.{}".format),
    st.sampled_from(["/a.*@.*/", "/.*one.*/", "/(b)@.*/", "*", "postmaster"]),
)
RULES = st.lists(
    st.builds(
        lambda patterns, number: Rule(
            tuple(patterns), (f"d{number}",), domains=("one.test", "bücher.test")
        ),
        st.lists(PATTERNS, min_size=1, max_size=3),
        st.integers(0, 99),
    ),
    max_size=8,
)


def matches(router: Router, pattern: Pattern, address: Address) -> bool:
    """Say whether one pattern matches: what the index has to agree with."""
    local, domain = canonical_local(address.local), canonical_domain(address.domain)
    if isinstance(pattern, Exact):
        return (local, domain) == (pattern.local, pattern.domain)
    if "%" in local:
        return False
    if isinstance(pattern, Tagged):
        return local.startswith(f"{pattern.local}+") and domain == pattern.domain
    if isinstance(pattern, Domain):
        return domain == pattern.domain
    if isinstance(pattern, SubDomains):
        return domain.endswith(f".{pattern.domain}")
    if isinstance(pattern, Expression):
        return domain in pattern.domains and any(
            pattern.regex.fullmatch(f"{address.local}@{form}") is not None
            for form in (domain, unicode_domain(domain))
        )
    if isinstance(pattern, Postmaster):
        return local == "postmaster" and router.owns(domain)
    return True


class IndexTests(SynchronousTestCase):
    @given(RULES, LOCALS, DOMAINS)
    def test_lookup_is_the_first_match(self, rules: list[Rule], local: str, domain: str) -> None:
        router = Router(rules, "mx.example.com")
        address = Address(local, domain)
        naive = next(
            (each.route for each in entries_of(rules) if matches(router, each.pattern, address)),
            None,
        )
        try:
            found = router.find(address, authenticated=True)
        except Refused:
            self.assertIsNone(naive)
            return
        if naive is None:
            self.assertEqual((local, found.destinations), ("postmaster", ("postmaster",)))
        else:
            self.assertEqual((found.name, found.destinations), (naive.name, naive.destinations))

    @given(RULES, LOCALS, DOMAINS)
    def test_a_shadowed_pattern_never_wins(
        self, rules: list[Rule], local: str, domain: str
    ) -> None:
        # Told apart by the destination alone: number every pattern.
        single = [
            Rule((text,), (str(number),), domains=each.domains)
            for number, (each, text) in enumerate(
                (each, text) for each in rules for text in each.patterns
            )
        ]
        unreachable = {str(number) for number, _, _ in shadowed(single)}
        try:
            found = Router(single, "mx.example.com").find(
                Address(local, domain), authenticated=True
            )
        except Refused:
            return
        self.assertNotIn(found.destinations[0], unreachable)


class ShadowTests(SynchronousTestCase):
    def shadows(self, *patterns: str) -> list[tuple[str, str]]:
        rules = [rule(text, domains=["a.test"]) for text in patterns]
        return [(text, by.route.name) for _, text, by in shadowed(rules)]

    def test_shadows(self) -> None:
        for first, second in (
            ("*", "u@a.test"),
            ("a.test", "u@a.test"),
            ("a.test", "u+*@a.test"),
            ("a.test", "*@A.test"),
            ("*.test", "u@a.test"),
            ("*.test", "a.test"),
            ("*.test", "*.a.test"),
            ("u@a.test", "U@a.test"),
            ("u+*@a.test", "U+*@a.test"),
            ("postmaster", "postmaster"),
            ("*", "postmaster"),
            ("*", "*"),
            ("*", "*.test"),
        ):
            self.assertEqual(self.shadows(first, second), [(second, first)])

    def test_no_shadows(self) -> None:
        for first, second in (
            ("u@a.test", "a.test"),
            ("*.a.test", "a.test"),
            ("*", "a%b@a.test"),
            ("u@a.test", "u+*@a.test"),
            ("*", "/x/"),
            ("*.a.test", "*.test"),
        ):
            self.assertEqual(self.shadows(first, second), [])


class ExplainTests(SynchronousTestCase):
    def explain(self, text: str, *rules: Rule) -> list[str]:
        return Router(rules, "mx.example.com", kinds={"app": "webhook"}).explain(text)

    def test_a_route(self) -> None:
        found = self.explain(
            "Support+T@example.com",
            Rule(
                ("support+*@example.com",),
                ("app", "archive"),
                max_size=4096,
                sync=True,
                check_url="https://app.example.com/check?token=secret",
                place="mailsvc.toml:12",
            ),
        )
        self.assertEqual(
            found,
            [
                "Support+T@example.com matches the route support+*@example.com (mailsvc.toml:12)",
                "delivered to app (webhook)",
                "delivered to archive",
                "tag: T",
                "a message may have at most 4096 octets",
                "the destination's answer decides the reply to the sender",
                "https://app.example.com/check is asked first whether the recipient exists",
            ],
        )

    def test_authentication(self) -> None:
        found = self.explain("a@example.com", rule("a@example.com", auth=True))
        self.assertIn("not authenticated are refused: 530 5.7.0", found[-1])
        found = self.explain("postmaster@example.com", rule("example.com", auth=True))
        self.assertEqual(
            found[-1], "mail of senders that are not authenticated is delivered to postmaster"
        )

    def test_refusals(self) -> None:
        found = self.explain("b@example.com", rule("a@example.com"))
        self.assertIn("b@example.com is refused: 550 5.1.1", found[0])
        self.assertEqual(found[1], "example.com is an own domain, but no route matches")
        found = self.explain("a@else.test", *(rule(f"*.d{n}.test") for n in range(12)))
        self.assertIn("550 5.7.1", found[0])
        self.assertIn("the own domains are mx.example.com, *.d0.test", found[1])
        self.assertIn(" and 3 more", found[1])
        self.assertIn("ask for relaying", self.explain("a%b@example.com", rule("*"))[1])

    def test_postmaster(self) -> None:
        found = self.explain("postmaster")
        self.assertEqual(
            found,
            [
                "postmaster is taken as RFC 5321 asks for postmaster; no route names it",
                "delivered to postmaster",
            ],
        )

    def test_no_address(self) -> None:
        self.assertEqual(self.explain("x"), ["'x' is not an address; write user@example.com"])
