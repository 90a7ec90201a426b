# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of finding the bases of a Dockerfile and writing other names in their place.

What docker does with each text here was tried on dockerd 20.10.
"""

from __future__ import annotations

import contextlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import dockerfile
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references

Arguments = dict[str, str]


def find(text: str, target: str | None = None, **build_args: str) -> list[str]:
    """Return the bases; pin() must name the same ones."""
    options: t.Any = {"build_args": build_args, "target": target, "where": "/srv/Dockerfile"}
    found = dockerfile.bases(text, **options)
    dockerfile.pin(text, {base: base for base in found}, **options)
    return list(found)


def pin(text: str, target: str | None = None, **build_args: str) -> str:
    """Return the text with each base in capitals behind a mark."""
    options: t.Any = {"build_args": build_args, "target": target, "where": "/srv/Dockerfile"}
    names = {base: f"PINNED-{base}" for base in dockerfile.bases(text, **options)}
    return dockerfile.pin(text, names, **options)


def refused(text: str, cause: str, target: str | None = None, **build_args: str) -> None:
    with pytest.raises(BuildError) as caught:
        find(text, target, **build_args)
    assert (caught.value.code, caught.value.object) == ("malformed", "/srv/Dockerfile")
    assert cause in caught.value.cause


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM a\n", ["a"]),
        ("FROM a", ["a"]),
        ("from a as b\n", ["a"]),
        ("  FROM\t a  \n", ["a"]),
        ("FROM a\r\nRUN x\r\n", ["a"]),
        ("# comment\n\nFROM a\n", ["a"]),
        ("FROM r.example.org:5000/x/y:1.2@sha256:00\n", ["r.example.org:5000/x/y:1.2@sha256:00"]),
        ("FROM --platform=linux/arm64 a AS b\n", ["a"]),
        ("FROM a\nFROM b\nFROM a\n", ["a", "b"]),
        ("FROM a AS one\nFROM one AS two\nFROM TWO\n", ["a"]),
        ("FROM a AS One\nFROM oNE\n", ["a"]),
        ("FROM scratch\nCOPY x /x\n", []),
        ("FROM a AS a\nFROM a\n", ["a"]),
        # A name means the stage only behind it.
        ("FROM b\nFROM a AS b\n", ["b", "a"]),
        ("FROM a\nRUN echo FROM b\nLABEL FROM=b\n", ["a"]),
        ("FROM a\n# FROM b\n", ["a"]),
        ("FROM a\nRUN x \\\n  FROM b\n", ["a"]),
        ("FROM a\nRUN x \\\n# comment\n\n  FROM b\nUSER y\n", ["a"]),
        ("FROM a\nFROMAGE b\n", ["a"]),
    ],
)
def test_bases_are_what_stages_start_from(text: str, bases: list[str]) -> None:
    assert find(text) == bases


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM a\nCOPY --from=b /x /y\n", ["a", "b"]),
        ("FROM a\ncopy --from=b:1 /x /y\n", ["a", "b:1"]),
        ("FROM a\nCOPY --chown=1:1 --chmod=600 --from=b /x /y\n", ["a", "b"]),
        ("FROM a\nCOPY --from=b --chown=1:1 /x /y\n", ["a", "b"]),
        ("FROM a\nCOPY \\\n --from=b \\\n /x /y\n", ["a", "b"]),
        ("FROM a\n  COPY --from=b /x /y\n", ["a", "b"]),
        ("FROM a AS one\nFROM b\nCOPY --from=one /x /y\nCOPY --from=ONE /x /y\n", ["a", "b"]),
        ("FROM a\nFROM b\nCOPY --from=0 /x /y\n", ["a", "b"]),
        ("FROM a\nCOPY --from=later /x /y\nFROM b AS later\n", ["a", "later", "b"]),
        ("FROM a\nCOPY x --from=b /y\n", ["a"]),
        ("FROM a\nRUN COPY --from=b /x /y\n", ["a"]),
    ],
)
def test_bases_are_what_files_are_copied_from(text: str, bases: list[str]) -> None:
    assert find(text) == bases


@pytest.mark.parametrize(
    ("text", "arguments", "bases"),
    [
        ("ARG B=a\nFROM $B\n", {}, ["a"]),
        ("ARG B=a\nFROM ${B}\n", {}, ["a"]),
        ("arg B=a\nFROM x/${B}:1\n", {}, ["x/a:1"]),
        ("ARG B=a\nFROM $B\n", {"B": "b"}, ["b"]),
        ("ARG B\nFROM $B\n", {"B": "b"}, ["b"]),
        ('ARG B="a"\nARG C=\'c\'\nFROM $B\nFROM $C\n', {}, ["a", "c"]),
        ("ARG B=a C=c\nFROM $B-$C\n", {}, ["a-c"]),
        ("ARG V=1\nARG B=a:$V\nFROM $B\n", {"V": "2"}, ["a:2"]),
        ("ARG B=a\nARG B=b\nFROM $B\n", {}, ["b"]),
        ("FROM ${B:-a}\n", {}, ["a"]),
        ("ARG B\nFROM ${B:-a}\n", {}, ["a"]),
        ("ARG B=b\nFROM ${B:-a}\n", {}, ["b"]),
        ("ARG B=b\nFROM a${B:+-x}\n", {}, ["a-x"]),
        ("ARG B=\nFROM a${B:+-x}\n", {}, ["a"]),
        ("ARG B=scratch\nFROM $B\n", {}, []),
        ("FROM a AS one\nARG S=x\nFROM one\n", {}, ["a"]),
        # An argument inside a stage is none for a later FROM, and none that is not declared counts.
        ("ARG B=a\nFROM $B\nARG B=c\nFROM $B\n", {}, ["a"]),
        ("FROM a${B}\n", {"B": "b"}, ["a"]),
    ],
)
def test_arguments_are_put_in(text: str, arguments: Arguments, bases: list[str]) -> None:
    assert find(text, **arguments) == bases


@pytest.mark.parametrize(
    "text", ["FROM $B\n", "ARG B\nFROM ${B}\n", "ARG B=a\nFROM ${B:+}\n", "FROM a\nARG B=b\nFROM $B\n"]
)
def test_empty_base_is_refused(text: str) -> None:
    refused(text, "is empty")


def test_line_of_an_empty_base_is_named() -> None:
    refused("# one\n\nFROM a\nFROM $B\n", "line 4 is empty")


@pytest.mark.parametrize("text", ["", "\n", "# FROM a\n", "RUN x\n", "ARG B=a\n"])
def test_file_without_from_is_refused(text: str) -> None:
    refused(text, "has no FROM")


@pytest.mark.parametrize("line", ["FROM", "FROM a b", "FROM a AS", "FROM a AS b c", "FROM a IS b"])
def test_malformed_from_is_refused(line: str) -> None:
    refused(f"FROM x\n{line}\n", "line 2 is not FROM IMAGE [AS NAME]")


STAGES = "FROM a AS one\nCOPY --from=x / /\nFROM b AS Two\nCOPY --from=y / /\nFROM c\nCOPY --from=z / /\n"


@pytest.mark.parametrize(
    ("target", "bases"),
    [
        (None, ["a", "x", "b", "y", "c", "z"]), ("one", ["a", "x"]), ("ONE", ["a", "x"]), ("two", ["a", "x", "b", "y"]),
        ("0", ["a", "x"]), ("1", ["a", "x", "b", "y"]), ("2", ["a", "x", "b", "y", "c", "z"]),
    ],
)
def test_stages_behind_the_target_are_not_looked_at(target: str | None, bases: list[str]) -> None:
    assert find(STAGES, target) == bases


@pytest.mark.parametrize("target", ["three", "3", "a"])
def test_unknown_target_is_refused(target: str) -> None:
    refused(STAGES, f"no stage '{target}'", target)


def test_what_follows_the_target_may_be_malformed() -> None:
    assert find("FROM a AS one\nFROM $unknown\n", "one") == ["a"]


# docker builds the last stage then, from bases that were neither pinned nor hashed.
def test_empty_target_is_the_last_stage() -> None:
    assert find("FROM a\nFROM b\n", "") == ["a", "b"]


def test_instruction_has_its_word() -> None:
    assert dockerfile.Instruction("  from x", 0, 0).word == "FROM"
    assert dockerfile.Instruction("FROM", 0, 0).word == "FROM"
    assert dockerfile.Instruction("FROM2 x", 0, 0).word == ""
    assert dockerfile.Instruction("-x", 0, 0).word == ""


# Pinning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("FROM a\n", "FROM PINNED-a\n"),
        ("FROM a", "FROM PINNED-a"),
        ("from a as b\nRUN x\n", "FROM PINNED-a AS b\nRUN x\n"),
        ("FROM --platform=linux/arm64 a AS b\n", "FROM --platform=linux/arm64 PINNED-a AS b\n"),
        ("# c\nFROM \\\n# d\n  a \\\n  AS b\nRUN x \\\n  y\n", "# c\nFROM PINNED-a AS b\nRUN x \\\n  y\n"),
        ("FROM scratch\nCOPY x y\n", "FROM scratch\nCOPY x y\n"),
        ("FROM a AS b\nFROM b\nCOPY --from=b x y\n", "FROM PINNED-a AS b\nFROM b\nCOPY --from=b x y\n"),
        ("FROM a\nCOPY --chown=1 --from=b:1 x y\n", "FROM PINNED-a\nCOPY --chown=1 --from=PINNED-b:1 x y\n"),
        ("FROM a\n  COPY --from=b \\\n   x y\nRUN z\n", "FROM PINNED-a\nCOPY --from=PINNED-b  x y\nRUN z\n"),
        ("ARG B=a\nFROM $B\nRUN $B\n", "ARG B=a\nFROM PINNED-a\nRUN $B\n"),
        ("FROM a\nFROM a\n", "FROM PINNED-a\nFROM PINNED-a\n"),
        ("FROM a\nRUN x\n\n# end", "FROM PINNED-a\nRUN x\n\n# end"),
    ],
)
def test_bases_are_replaced_and_nothing_else(text: str, pinned: str) -> None:
    assert pin(text) == pinned


def test_stages_behind_the_target_are_left_alone() -> None:
    assert pin("FROM a AS one\nFROM $B\n", "one") == "FROM PINNED-a AS one\nFROM $B\n"


def test_platform_may_come_from_an_argument() -> None:
    assert find("ARG P=linux/arm64\nFROM --platform=$P a\n") == ["a"]
    assert pin("ARG P=linux/arm64\nFROM --platform=$P a\n") in (
        "ARG P=linux/arm64\nFROM --platform=linux/arm64 PINNED-a\n", "ARG P=linux/arm64\nFROM --platform=$P PINNED-a\n",
    )


# Engines that know BUILDPLATFORM (podman's, BuildKit) would else get an empty platform.
def test_platform_that_only_the_engine_knows_is_left_to_it() -> None:
    assert pin("FROM --platform=$BUILDPLATFORM a\n") == "FROM --platform=$BUILDPLATFORM PINNED-a\n"


def test_base_without_a_new_name_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        dockerfile.pin("FROM a\n", {}, build_args={}, target=None, where="x")


# How lines are joined ------------------------------------------------------------------------------------------------


def test_escape_character_can_be_chosen() -> None:
    text = "# escape=`\nFROM a\nWORKDIR c:\\\nCOPY --from=b `\n /x /y\n"
    assert find(text) == ["a", "b"]
    assert find(text.replace("# escape", "#ESCAPE ").replace("=`", " = `")) == ["a", "b"]
    assert find("# escape=\\\nFROM \\\n a\n") == ["a"]


def test_escape_directive_counts_in_front_only() -> None:
    assert find("FROM a\n# escape=`\nRUN x \\\n FROM b\n") == ["a"]
    assert find("# a comment\n# escape=`\nFROM a\nRUN x \\\n FROM b\n") == ["a"]


def test_file_may_end_within_an_instruction() -> None:
    assert find("FROM a\nCOPY --from=b \\\n") == ["a", "b"]
    assert pin("FROM a \\\n") == "FROM PINNED-a"


def test_blanks_may_follow_the_escape_character() -> None:
    assert find("FROM \\  \n a\n") == ["a"]


# docker joins no line that ends in two escape characters: a FROM below it is one.
@pytest.mark.parametrize("line", ["ENV X=C:\\\\", "RUN echo x\\\\"])
def test_escaped_escape_character_does_not_continue_a_line(line: str) -> None:
    assert find(f"FROM a\n{line}\nFROM b\n") == ["a", "b"]


def test_escape_directive_may_follow_another_directive() -> None:
    text = "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nWORKDIR c:\\\nFROM b\n"
    assert find(text) == ["a", "b"]


# docker takes FROM 0 for an image of that name; only COPY --from counts stages.
def test_number_after_from_is_an_image() -> None:
    assert find("FROM a\nFROM 0\n") == ["a", "0"]


@pytest.mark.parametrize("separator", ["\u2028", "\x0c"], ids=["line separator", "form feed"])
def test_only_line_ends_end_lines(separator: str) -> None:
    assert find(f"FROM a\n# x{separator}FROM b\n") == ["a"]


# docker takes these for a, c and a. None of what is found here is a reference, and so the build is refused.
@pytest.mark.parametrize(
    ("text", "base"), [('FROM "a"\n', '"a"'), ("ARG C=c\nFROM ${B:-${C}}\n", "${C}")], ids=["quotes", "nested"]
)
def test_rare_shapes_of_a_base_are_no_reference(text: str, base: str) -> None:
    assert find(text) == [base]
    with pytest.raises(HallmarkError):
        references.parse(base)


def test_word_that_is_split_is_refused() -> None:
    refused("FROM a\\\nb\n", "line 1 is not FROM IMAGE")


# What is found is more than docker finds: such a base is asked for, and the text is changed where it was found.
def test_here_documents_are_not_known() -> None:
    assert find("# syntax=x\nFROM a\nRUN <<EOF\nFROM b\nEOF\n") == ["a", "b"]


# docker takes the mark away before it reads the line; the base behind it is neither pinned nor hashed here.
def test_byte_order_mark_hides_nothing() -> None:
    assert find("\ufeffFROM a\nFROM b\n") == ["a", "b"]


# The older builder of docker knows no mounts; podman's does.
def test_image_that_is_mounted_is_a_base_or_refused() -> None:
    with contextlib.suppress(BuildError):
        assert find("FROM a\nRUN --mount=type=bind,from=b x\n") == ["a", "b"]
