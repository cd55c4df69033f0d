import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailsvc.deliverers.pathnames import NAME_LIMIT, PathTemplate, safe_name
from mailsvc.errors import ConfigError
from mailsvc.message import Address
from mailsvc.testing import make_delivery

_HOSTILE = (
    "",
    ".",
    "..",
    "...",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "\0",
    "a\0b",
    ".hidden",
    "-rf",
    "~root",
    "%",
    "%2E",
    "%~",
    "cur",
    "new",
    "tmp",
    "%63ur",
    "con\n",
    "jörg",
    "\udcff",
    "x" * 300,
    "x" * 299 + "y",
    "/" * 64,
)


class SafeNameTests(SynchronousTestCase):
    """Requirement 45: an address never reaches a path unescaped."""

    def check(self, text: str) -> str:
        name = safe_name(text)
        self.assertNotEqual(name, "")
        self.assertNotIn("/", name)
        self.assertNotIn("\0", name)
        self.assertNotEqual(name[0], ".")
        self.assertTrue(name.isascii() and name.isprintable())
        self.assertNotIn(name, ("cur", "new", "tmp"))
        self.assertLessEqual(len(name), NAME_LIMIT)
        return name

    def test_hostile_texts_give_distinct_names(self) -> None:
        names = [self.check(text) for text in _HOSTILE]
        self.assertEqual(len(set(names)), len(names))

    def test_ordinary_texts_stay(self) -> None:
        for text in ("ada", "ada.lovelace", "a-b_c=d", "example.com", "v1@x", "a.."):
            self.assertEqual(safe_name(text), text)

    def test_each_form(self) -> None:
        self.assertEqual(safe_name(""), "%")
        self.assertEqual(safe_name(".."), "%2E.")
        self.assertEqual(safe_name("a/b"), "a%2Fb")
        self.assertEqual(safe_name("cur"), "%63ur")
        self.assertEqual(safe_name("ü"), "%C3%BC")

    @given(st.text(max_size=200), st.text(max_size=200))
    def test_any_texts(self, one: str, other: str) -> None:
        self.assertEqual(self.check(one) == self.check(other), one == other)

    @given(
        st.text(alphabet="%~2EFcurn.a/", max_size=12), st.text(alphabet="%~2EFcurn.a/", max_size=12)
    )
    def test_texts_that_look_like_escapes(self, one: str, other: str) -> None:
        self.assertEqual(self.check(one) == self.check(other), one == other)


class PathTemplateTests(SynchronousTestCase):
    def path(
        self, text: str, local: str = "ada", domain: str = "example.com", tag: str = ""
    ) -> str:
        delivery = make_delivery(Address(local, domain), tag=tag)
        return PathTemplate(text, "MX.example.com").path(delivery.recipient)

    def test_placeholders(self) -> None:
        path = self.path("/var/mail/{domain}/{user}/{tag}", "Ada+News", "Example.COM", "News")
        self.assertEqual(path, "/var/mail/example.com/ada/news")

    def test_an_empty_tag_has_a_name(self) -> None:
        self.assertEqual(self.path("/m/{user}/{tag}"), "/m/ada/%")

    def test_paths_are_plain(self) -> None:
        self.assertEqual(self.path("/m//{user}/./x/../"), "/m/ada")

    def test_several_in_one_name(self) -> None:
        self.assertEqual(self.path("/m/{user}@{domain}"), "/m/ada@example.com")

    def test_without_placeholder(self) -> None:
        self.assertEqual(self.path("/m/all"), "/m/all")

    def test_relative_paths_begin_in_the_working_directory(self) -> None:
        self.assertEqual(self.path("box"), os.path.join(os.getcwd(), "box"))

    def test_bare_postmaster_is_at_the_hostname(self) -> None:
        self.assertEqual(
            self.path("/m/{domain}/{user}", "Postmaster", ""), "/m/mx.example.com/postmaster"
        )

    def test_braces(self) -> None:
        self.assertEqual(self.path("/m/{{user}}/{user}"), "/m/{user}/ada")

    def test_no_address_climbs(self) -> None:
        for local in _HOSTILE:
            for domain in _HOSTILE[1:]:
                path = self.path("/m/{domain}/{user}", local, domain, local)
                self.assertEqual(os.path.dirname(os.path.dirname(os.path.normpath(path))), "/m")

    def test_bad_templates(self) -> None:
        for text, says in (
            ("", "it must name a directory"),
            ("/a\0b", "it must name a directory"),
            ("/m/{usr}", "there is no {usr}; there are {user} {domain} {tag}"),
            ("/m/{}", "there is no {}"),
            ("/m/{user", "a brace stands alone"),
            ("/m/}{user}", "a brace stands alone"),
            ("/m/{user}{domain}{tag}", "can become too long"),
            ("/m/" + "x" * 256, "can become too long"),
            ("/m/" + "x" * 200 + "{user}/b", "can become too long"),
        ):
            error = self.assertRaises(ConfigError, PathTemplate, text, "mx.example.com")
            self.assertTrue(str(error).startswith("path: "))
            self.assertIn(says, str(error))
