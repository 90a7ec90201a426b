# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions in linear time: what they match is what Python's own match, and they never take long."""

from __future__ import annotations

import re
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._signing import linear_match
from hypothesis import given, settings
from hypothesis import strategies as st


def matches(pattern: str, text: str) -> bool:
    return linear_match.compile_pattern(pattern, where="san").fullmatch(text)


@pytest.mark.parametrize(("pattern", "matching", "others"), [
    ("abc", ["abc"], ["", "ab", "abcd", "xabc", "ABC"]),
    ("", [""], ["a"]),
    (r"https://github\.com/org/[^/]+/\.github/workflows/release\.ya?ml@refs/tags/v[0-9.]+",
     ["https://github.com/org/app/.github/workflows/release.yml@refs/tags/v1.2"],
     ["https://github.com/org/a/b/.github/workflows/release.yml@refs/tags/v1.2",
      "https://github.com/org/app/.github/workflows/release.yml@refs/tags/v1.2-evil",
      "https://githubxcom/org/app/.github/workflows/release.yml@refs/tags/v1.2"]),
    ("a|bc|", ["a", "bc", ""], ["b", "abc"]),
    ("(a|b)*c", ["c", "abac"], ["ab", "acb"]),
    ("a+b?", ["a", "aab"], ["", "b", "abb"]),
    ("a*?b+?", ["b", "aabb"], ["a"]),
    ("a{2}", ["aa"], ["a", "aaa"]),
    ("a{2,3}", ["aa", "aaa"], ["a", "aaaa"]),
    ("a{2,}", ["aa", "aaaaa"], ["a"]),
    ("a{,2}", ["", "a", "aa"], ["aaa"]),
    ("(ab){0}", [""], ["ab"]),
    ("(?P<name>a)(?:b)", ["ab"], []),
    ("[a-c.-]", ["a", "b", "c", ".", "-"], ["d", ""]),
    ("[^a-c]", ["d", "\n", "é"], ["a", "c", ""]),
    ("[^ab]", ["c"], ["a", "b"]),
    (".", ["a", "é", "\r"], ["\n", ""]),
    (r"\d\D", ["1a", "0٣"], ["11", "٣a"]),
    (r"\w\W", ["_-", "aé", "0 "], ["éa", "ab"]),
    (r"\s\S", [" a", "\ta", "\va"], ["aa", "\u00a0a"]),
    (r"[\d-]", ["1", "-"], ["a"]),
    (r"[^\w.]", ["-"], ["a", "."]),
    (r"[\W]", ["-"], ["a"]),
    ("^ab$", ["ab"], ["ab\n", "b"]),
    (r"\Aab\Z", ["ab"], ["ab\n"]),
    ("a^b", [], ["ab", "a", "b"]),
    ("a$b", [], ["ab", "a", "b"]),
    ("(^|x)a", ["a", "xa"], ["ba"]),
    ("(?i)aB[c-d][^e]", ["ABCf", "abDF"], ["abce", "abcE"]),
    ("(?i)[^k]", ["x"], ["k", "K"]),
    # Not even the sign of Kelvin, whose lower case is k.
    ("(?i)k", ["k", "K"], ["\u212a"]),
    ("(?i)\u212a", ["\u212a"], ["k", "K"]),
    ("(?i)é", ["é"], ["É"]),
    ("(?i:a)b", ["Ab", "ab"], ["AB"]),
    ("(?i)a(?-i:b)", ["Ab"], ["aB"]),
    ("((a*)*)*", ["", "aaa"], ["b"]),
    ("(){3}a", ["a"], [""]),
    (r"\.\*", [".*"], ["aa"]),
])
def test_what_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    matcher = linear_match.compile_pattern(pattern, where="san")
    assert matcher.pattern == pattern
    assert [text for text in matching if not matcher.fullmatch(text)] == []
    assert [text for text in others if matcher.fullmatch(text)] == []


@pytest.mark.parametrize(("pattern", "named"), [
    (r"(a)\1", "back-references"), ("(?P<n>a)(?P=n)", "back-references"),
    ("a(?=b)", "look-around"), ("a(?!b)", "look-around"), ("(?<=a)b", "look-around"), ("(?<!a)b", "look-around"),
    ("(?!)", "look-around"),
    ("(a)?(?(1)b|c)", "conditional groups"),
    (r"\bab\b", "word boundaries"), (r"a\Bb", "word boundaries"),
    ("(?m)^a$", "only (?i)"), ("(?s).", "only (?i)"), ("(?x) a", "only (?i)"), ("(?s:.)", "only (?i)"),
    ("(?i)(?-s:.)", "only (?i)"), ("(?u)a", "incompatible"), ("(?L)a", "cannot use 'L' flag"),
    ("a(?i)b", "not at the start"),
    ("(", "missing )"), ("[", "unterminated"), ("*", "nothing to repeat"), ("a{3,2}", "min repeat"),
    (r"\p{L}", "bad escape"),
    # RE2 reads these as classes within classes, and later Pythons may.
    ("[[:alpha:]]", "nested set"), ("[a--b]", "set difference"), ("[a&&b]", "set intersection"),
    ("a{10000}", "10000 states"), ("((a{100}){100}){2}", "10000 states"), ("a{0,6000}", "10000 states"),
    ("(|){4294967290}", "10000 states"), ("a{99999999999}", "too large"),
    ("(" * 20_000 + ")" * 20_000, "too deep"),
])
def test_what_is_refused(pattern: str, named: str) -> None:
    with pytest.raises(VerificationError) as caught:
        linear_match.compile_pattern(pattern, where="san")
    error = caught.value
    assert (error.code, error.object) == ("input_invalid", "san")
    assert named in error.cause
    assert len(error.attempt) < 300


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the parser does not know them")
@pytest.mark.parametrize(("pattern", "named"), [("(?>a)", "atomic groups"), ("a*+", "possessive repetition")])
def test_what_newer_pythons_know_is_refused(pattern: str, named: str) -> None:
    test_what_is_refused(pattern, named)


def test_limit_of_states_can_be_used_up() -> None:
    assert matches("a{9999}", "a" * 9999)
    assert matches("(a?){2000}", "a")
    # Nothing, very often, costs nothing.
    assert matches("((){4294967290}){4294967290}", "")


# --- against Python's own engine -------------------------------------------------------------------------------------

ATOMS = st.sampled_from([
    "a", "b", "A", r"\.", "-", ".", "1", "é", "[ab]", "[^a]", "[a-z]", "[^A-Z1]", r"\d", r"\D", r"\w", r"\W", r"\s",
    r"\S", r"[\d.]", r"[^\w]", r"[\W1]", r"[^\S]", "",
])
SUFFIXES = st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "{0,2}", "{2,}", "{,1}", "*?", "+?", "??", "{1,2}?"])


def _grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = st.builds(
        lambda kind, text, suffix: f"({kind}{text}){suffix}",
        st.sampled_from(["", "?:", "?i:", "?-i:"]), inner, SUFFIXES,
    )
    several = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(groups, several.map("".join), several.map("|".join))


REPEATED = st.builds(lambda atom, suffix: atom + suffix if atom else "", ATOMS, SUFFIXES)
BODIES = st.recursive(REPEATED, _grow, max_leaves=8)
PATTERNS = st.builds(
    lambda flag, start, body, end: f"{flag}{start}(?:{body}){end}", st.sampled_from(["", "(?i)"]),
    st.sampled_from(["", "^", r"\A"]), BODIES, st.sampled_from(["", "$", r"\Z"]),
)


@pytest.mark.parametrize("pattern", [
    ".", r"\d", r"\D", r"\s", r"\S", r"\w", r"\W", r"[^\d]", r"[^\s]", r"[^\w]", r"[\D]", r"[\da-c]", "[^a-c]", "a",
    "[^a]",
])
def test_every_character_is_in_the_sets_where_python_has_it(pattern: str) -> None:
    characters = [chr(number) for number in (*range(0x300), 0x212A, 0xD7FF, 0xE000, 0xFFFF, sys.maxunicode)]
    for flag in ("", "(?i)"):
        matcher = linear_match.compile_pattern(flag + pattern, where="san")
        oracle = re.compile(flag + pattern, re.ASCII)
        assert [one for one in characters if matcher.fullmatch(one) != (oracle.fullmatch(one) is not None)] == []


@settings(max_examples=1000)
@given(pattern=PATTERNS, texts=st.lists(st.text("abAB1.- é\n", max_size=7), min_size=1, max_size=5))
def test_matches_what_python_matches(pattern: str, texts: list[str]) -> None:
    matcher = linear_match.compile_pattern(pattern, where="san")
    oracle = re.compile(pattern, re.ASCII)
    for text in texts:
        assert matcher.fullmatch(text) == (oracle.fullmatch(text) is not None), (pattern, text)


# --- time ------------------------------------------------------------------------------------------------------------


def steps(pattern: str, text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often a character is looked at."""
    count = 0
    holds = linear_match._Set.holds

    def counting(self: t.Any, character: str) -> bool:
        nonlocal count
        count += 1
        return holds(self, character)

    matcher = linear_match.compile_pattern(pattern, where="san")
    with monkeypatch.context() as patch:
        patch.setattr(linear_match._Set, "holds", counting)
        assert not matcher.fullmatch(text)
    return count


@pytest.mark.parametrize("pattern", [
    "(a+)+$", "(a*)*c", "(a|a)*c", "(a|aa)+c", "(.*.*)*c", "(.*a){10}c", "(a?){20}a{20}c", r"(\w+\.?)+@c",
])
def test_hostile_names_take_no_longer_than_others(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long, longer = (steps(pattern, "a" * length + "b", monkeypatch) for length in (30, 1000, 2000))
    assert short < 31 * 100
    # Twice the text, twice the steps: all states there are can be reached long before its end.
    assert longer <= 2 * long + 100
