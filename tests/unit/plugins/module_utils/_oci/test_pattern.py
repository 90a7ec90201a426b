# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns: what they match, which is the more specific, which overlap, and what is none."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import pattern
from hypothesis import given
from hypothesis import strategies as st

MATCHES = [
    ("r.io/app", "r.io/app", True), ("r.io/app", "r.io/app2", False), ("r.io/app", "r.io/app/x", False),
    ("r.io/app", "s.io/app", False), ("r.io:5000/app", "r.io/app", False),
    ("r.io/ns/**", "r.io/ns/app", True), ("r.io/ns/**", "r.io/ns/a/b", True), ("r.io/ns/**", "r.io/ns", True),
    ("r.io/ns/**", "r.io/ns-evil/app", False), ("r.io/ns/**", "r.io/other/ns/app", False),
    ("r.io/**", "r.io/app", True), ("r.io/**", "r.io/a/b", True), ("r.io/**", "r.io.evil/app", False),
    ("r.io/ns/rs-*", "r.io/ns/rs-a", True), ("r.io/ns/rs-*", "r.io/ns/rs-a/b", False),
    ("r.io/ns/rs-*", "r.io/ns/rs", False), ("r.io/ns/rs*", "r.io/ns/rs", True), ("r.io/rs-*", "r.io/rs-a", True),
    ("*.example.org/**", "r.example.org/app", True), ("*.example.org/**", "a.b.example.org/app", True),
    ("*.example.org/**", "example.org/app", False), ("*.example.org/**", "evilexample.org/app", False),
    ("*.example.org/**", "r.example.org:5000/app", False), ("*.example.org/**", "r.io/r.example.org/app", False),
    # Docker Hub has one name here.
    ("docker.io/nginx", "docker.io/library/nginx", True), ("index.docker.io/acme/app", "docker.io/acme/app", True),
    ("docker.io/acme/rs-*", "docker.io/acme/rs-one", True), ("registry-1.docker.io/acme/**", "docker.io/acme/a", True),
    ("docker.io/rs-*", "docker.io/library/rs-one", True), ("index.docker.io/**", "docker.io/acme/a", True),
]


@pytest.mark.parametrize(("text", "name", "matches"), MATCHES)
def test_what_a_pattern_matches(text: str, name: str, matches: bool) -> None:
    assert pattern.parse(text).matches(name) is matches


@pytest.mark.parametrize(("text", "written"), [
    ("r.io/app", "r.io/app"), ("r.io/ns/**", "r.io/ns/**"), ("r.io/**", "r.io/**"), ("r.io/ns/a*", "r.io/ns/a*"),
    ("*.example.org/**", "*.example.org/**"), ("docker.io/nginx", "docker.io/library/nginx"),
    ("index.docker.io/acme/**", "docker.io/acme/**"), ("localhost/app", "localhost/app"),
    ("[::1]:5000/app/**", "[::1]:5000/app/**"),
])
def test_how_a_pattern_is_written(text: str, written: str) -> None:
    assert str(pattern.parse(text)) == written
    assert pattern.parse(written) == pattern.parse(text)


@pytest.mark.parametrize("text", [
    "", "*", "**", "/**", "app", "ns/app", "ns/**", "r.io", "r.io/", "r.io/*", "r.io/ns/*", "r.io/*/app",
    "r.io/ns*/app", "r.io/ns/**/app", "r.io/ns**", "r.io/app:1", "r.io/app:*", "r.io/app@sha256:" + "0" * 64,
    "r.io/App", "r.io/a?",
    "r.io/[ab]", "r.io/{a,b}", "*.example.org", "*.example.org/app", "*.example.org/ns/**", "*.example.org:5000/**",
    "*example.org/**", "*.*.org/**", "r.*.org/**", "https://r.io/app", "r.io/app/", "r.io//app", "r.io/ns//**",
    "r io/a", "r.io/ns/a**", "*.-a.org/**", "**/app", "r.io/ns/\n**",
])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        pattern.parse(text)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(("text", "words"), [
    ("r.io/*/app", "at the end only"), ("r.io/*/**", "at the end only"), ("r.io/*a*", "at the end only"),
    ("r.io/app:1", "a tag or a digest"), ("r.io/app@sha256:" + "0" * 64, "a tag or a digest"),
    ("r.io/ns/*", "nothing stands before"), ("app", "no registry host"), ("r.io/App", "not a repository"),
])
def test_why_it_is_no_pattern(text: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        pattern.parse(text)


@pytest.mark.parametrize(("name", "texts"), [
    ("r.example.org/ns/app", [
        "*.org/**", "*.example.org/**", "r.example.org/**", "r.example.org/ns/**", "r.example.org/ns/a*",
        "r.example.org/ns/ap*", "r.example.org/ns/app/**", "r.example.org/ns/app*", "r.example.org/ns/app",
    ]),
])
def test_the_most_specific_comes_last(name: str, texts: list[str]) -> None:
    patterns = [pattern.parse(text) for text in texts]
    assert all(one.matches(name) for one in patterns)
    assert sorted(patterns, key=lambda one: one.specificity) == patterns
    assert len({one.specificity for one in patterns}) == len(patterns)


NAMES = [
    f"{host}/{path}"
    for host in ("r.org", "a.r.org", "b.a.r.org", "r.org:5000")
    for path in ("a", "ab", "abc", "a/a", "a/ab", "a/abc", "ab/a", "a/a/a")
]
PATTERNS = [
    *NAMES, *(f"{name}/**" for name in NAMES), *(f"{name}*" for name in NAMES), "r.org/**", "a.r.org/**",
    "*.org/**", "*.r.org/**", "*.a.r.org/**",
]


def test_patterns_overlap_if_some_name_is_matched_by_both() -> None:
    # Names with one more letter, or one more part, are all that is needed to find a witness.
    names = [name + more for name, more in itertools.product(NAMES, ("", "x", "/x", "x/x", "/x/x"))]
    patterns = [pattern.parse(text) for text in PATTERNS]
    matched = {one: {name for name in names if one.matches(name)} for one in patterns}
    for one, other in itertools.product(patterns, patterns):
        assert one.overlaps(other) is bool(matched[one] & matched[other]), (str(one), str(other))


@given(st.sampled_from(PATTERNS), st.sampled_from(PATTERNS), st.sampled_from(NAMES))
def test_no_two_patterns_are_equally_specific(one: str, other: str, name: str) -> None:
    first, second = pattern.parse(one), pattern.parse(other)
    if first != second and first.matches(name) and second.matches(name):
        assert first.specificity != second.specificity
