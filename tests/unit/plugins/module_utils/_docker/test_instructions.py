# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reading the instructions of a Dockerfile for builds without RUN.

What docker makes of the texts here was tried on dockerd 20.10, see tests/interop/test_interop_assemble_semantics.py.
"""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import instructions
from ansible_collections.hallmark.signing.plugins.module_utils._docker.instructions import (
    Base,
    Command,
    Copy,
    Health,
    Names,
    Pairs,
    Recipe,
    Setting,
    WorkingFolder,
)
from ansible_collections.hallmark.signing.plugins.module_utils._docker.refusal import Refusals
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError

WHERE = "/srv/Dockerfile"


def read(
    text: str, target: str | None = None, environment: dict[str, str] | None = None, **build_args: str
) -> Recipe:
    """Read a Dockerfile in which nothing is refused."""
    refusals = Refusals(WHERE)
    recipe = instructions.read(
        text, build_args=build_args, target=target, where=WHERE, environment=environment or {}, refusals=refusals
    )
    refusals.check()
    return recipe


def only(line: str, **options: t.Any) -> t.Any:
    """Read one instruction behind a FROM."""
    return read(f"FROM scratch\n{line}\n", **options).steps[-1]


def refused(text: str, **options: t.Any) -> str:
    with pytest.raises(BuildError) as caught:
        read(text, **options)
    assert (caught.value.code, caught.value.object) == ("input_invalid", WHERE)
    return caught.value.cause


# Stages --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "base", "users"),
    [
        ("FROM scratch\nUSER a\n", None, "scratch", ["a"]),
        ("FROM a\nUSER a\nFROM b\nUSER b\n", None, "b", ["b"]),
        ("FROM a AS one\nUSER a\nFROM ONE\nUSER b\n", None, "a", ["a", "b"]),
        ("FROM a AS one\nUSER a\nFROM one AS two\nUSER b\nFROM c\nUSER c\n", "two", "a", ["a", "b"]),
        ("FROM a AS one\nUSER a\nFROM c\nUSER c\nFROM one\nUSER b\n", None, "a", ["a", "b"]),
        ("FROM a AS x\nUSER 1\nFROM b AS x\nUSER 2\nFROM x\nUSER 3\n", None, "b", ["2", "3"]),
        ("FROM a\nUSER a\nFROM b\nUSER b\n", "0", "a", ["a"]),
        ("FROM a\nUSER a\n", "", "a", ["a"]),
        ("ARG B=a\nFROM $B\nUSER a\n", None, "a", ["a"]),
    ],
)
def test_stage_begins_with_those_it_comes_from(text: str, target: str | None, base: str, users: list[str]) -> None:
    recipe = read(text, target)
    assert recipe.base == Base(base, None)
    assert [step.value for step in recipe.steps if isinstance(step, Setting)] == users
    assert instructions.find_base(text, build_args={}, target=target, where=WHERE) == recipe.base


def test_stages_that_are_not_needed_are_not_looked_at() -> None:
    assert len(read("FROM a\nRUN x\nFROM b\nUSER c\n").steps) == 1
    assert len(read("FROM b AS b\nUSER c\nFROM a\nRUN x\n", "b").steps) == 1


def test_platform_of_the_base_is_found() -> None:
    text = "ARG P=arm64\nFROM --platform=linux/$P a AS one\nFROM one\n"
    assert read(text).base == Base("a", "linux/arm64")


@pytest.mark.parametrize("flag", ["--platform=$NONE", "--platform", "--other=x", "--platform=a --platform=b"])
def test_flags_of_from_that_are_not_understood_are_refused(flag: str) -> None:
    assert refused(f"FROM {flag} a\n").startswith("line 1: FROM: ")


@pytest.mark.parametrize(("text", "target"), [("", None), ("USER a\n", None), ("FROM a\n", "b"), ("FROM a b\n", None)])
def test_file_without_the_wanted_stage_is_malformed(text: str, target: str | None) -> None:
    with pytest.raises(BuildError) as caught:
        read(text, target)
    assert caught.value.code == "malformed"
    with pytest.raises(BuildError):
        instructions.find_base(text, build_args={}, target=target, where=WHERE)


# Arguments and variables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "build_args", "label"),
    [
        ("FROM s\nARG A=1\nLABEL x=$A\n", {}, "1"),
        ("FROM s\nARG A=1\nLABEL x=$A\n", {"A": "2"}, "2"),
        ("FROM s\nARG A\nLABEL x=$A\n", {"A": "2"}, "2"),
        ("FROM s\nLABEL x=$A\nARG A\n", {"A": "2"}, ""),
        ("ARG A=1\nFROM s\nLABEL x=$A\n", {}, ""),
        ("ARG A=1\nFROM s\nARG A\nLABEL x=$A\n", {}, "1"),
        ("ARG A=1\nFROM s\nARG A\nLABEL x=$A\n", {"A": "2"}, "2"),
        ("ARG A=1\nFROM s\nARG A=3\nLABEL x=$A\n", {}, "3"),
        ("FROM s\nARG A=1\nARG A\nLABEL x=$A\n", {}, ""),
        ("FROM s\nARG A=1 B=$A\nLABEL x=$B\n", {}, ""),
        ("FROM s\nARG A=1\nARG B=$A-${A}\nLABEL x=$B\n", {}, "1-1"),
        ("ARG A=1\nARG B=$A\nFROM s\nARG B\nLABEL x=$B\n", {}, "1"),
        ("FROM s AS one\nARG A=1\nFROM one\nLABEL x=$A\n", {}, ""),
        ("FROM s AS one\nENV A=1\nFROM one\nLABEL x=$A\n", {}, "1"),
        ("FROM s\nENV A=1\nARG A=2\nLABEL x=$A\n", {"A": "3"}, "1"),
        ("FROM s\nARG A=2\nENV B=$A\nLABEL x=$B\n", {}, "2"),
        ("FROM s\nARG A='a b'\nLABEL x=$A\n", {}, "a b"),
        ("FROM s\nLABEL x=$http_proxy\n", {"http_proxy": "p"}, "p"),
        ("FROM s\nLABEL x=$HOME\n", {}, "/root"),
    ],
)
def test_variables_have_the_value_docker_gives_them(text: str, build_args: dict[str, str], label: str) -> None:
    recipe = read(text, environment={"HOME": "/root"}, **build_args)
    assert [step.pairs for step in recipe.steps if isinstance(step, Pairs)][-1] == (("x", label),)


def test_build_arguments_that_nothing_declares_are_warned_of() -> None:
    text = "ARG A\nFROM x\nARG B\nFROM y\nARG C=1\n"
    given = {"A": "", "B": "", "C": "", "D": "", "NO_PROXY": "", "SOURCE_DATE_EPOCH": "1"}
    (warning,) = read(text, **given).warnings
    assert (warning.code, warning.object) == ("input_invalid", WHERE)
    assert "argument D;" in warning.message


def test_arguments_only_buildkit_sets_are_refused_unless_given() -> None:
    assert "build_args" in refused("FROM x\nARG TARGETARCH\n")
    assert read("FROM x\nARG TARGETARCH\nLABEL a=$TARGETARCH\n", TARGETARCH="arm64").steps[1].pairs == (("a", "arm64"),)
    assert read("FROM x\nARG TARGETARCH=amd64\n").steps


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a=$A", "v w"), ("a=${A}x", "v wx"), ("a=$Ax", ""), ('a="$A"', "v w"), ("a='$A'", "$A"), (r"a=\$A", "$A"),
        (r'a="\$A"', "$A"), (r'a="x\ny"', r"x\ny"), (r"a=x\ny", "xny"), (r"a='x\ny'", r"x\ny"), (r'a="\"\\"', '"\\'),
        ("a=${A:-d}", "v w"), ("a=${N:-d}", "d"), ("a=${E:-d}", "d"), ("a=${E-d}", ""), ("a=${N-d}", "d"),
        ("a=${A:+p}", "p"), ("a=${N:+p}", ""), ("a=${E:+p}", ""), ("a=${E+p}", "p"), ("a=${A:?m}", "v w"),
        ("a=${N:-$A}", "v w"), ("a=${N:-${N:-x}y}z", "xyz"), ("a=${N:-'q}'}", "q}"), (r"a=${N:-\}}", "}"),
        ("a=$", "$"), ("a=$1x", "x"), ("a=x$", "x$"), ("a=$$", ""), (r"a=b\ c", "b c"), ('a="b c"', "b c"),
        ("a='b c'd", "b cd"), ('"a"=b', "b"), ("a=", ""), ('a=""', ""), ("a b  c", "b  c"), ('a b "c d"', "b c d"),
        ("a=x=y", "x=y"), ("a=ä€", "ä€"), ("a=b\\", "b"),
    ],
)
def test_words_are_read_as_docker_reads_them(line: str, value: str) -> None:
    for word in ("ENV", "LABEL"):
        assert only(f"{word} {line}", environment={"A": "v w", "E": ""}).pairs == (("a", value),)


def test_line_of_env_sees_the_values_from_before() -> None:
    recipe = read("FROM x\nENV A=1 B=$A\nENV C=$A D=$B\n")
    assert [step.pairs for step in recipe.steps] == [(("A", "1"), ("B", "")), (("C", "1"), ("D", ""))]


def test_escape_character_counts_in_words() -> None:
    recipe = read("# escape=`\nFROM x\nLABEL a=b` c `\n d=e\\f g=`$h\n")
    assert recipe.steps[0].pairs == (("a", "b c"), ("d", "e\\f"), ("g", "$h"))


# Instructions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "member", "words", "shell"),
    [
        ('CMD ["a", "b c"]', "Cmd", ("a", "b c"), False), ("CMD []", "Cmd", (), False),
        ("cmd a  $b", "Cmd", ("a  $b",), True), ("CMD ['a']", "Cmd", ("['a']",), True),
        ('CMD ["a",]', "Cmd", ('["a",]',), True), ('CMD ["\\ud800"]', "Cmd", ("\ufffd",), False),
        ('ENTRYPOINT ["$a"]', "Entrypoint", ("$a",), False), ("ENTRYPOINT a \\\n   b", "Entrypoint", ("a    b",), True),
        ("CMD a#b", "Cmd", ("a#b",), True), ("CMD a \\\n# c\n\n b", "Cmd", ("a  b",), True),
    ],
)
def test_commands_have_two_forms(line: str, member: str, words: tuple[str, ...], shell: bool) -> None:
    found: Command = only(line)
    assert (found.member, found.words, found.is_shell) == (member, words, shell)


def test_entrypoint_drops_the_command_of_earlier_stages_only() -> None:
    recipe = read("FROM a AS a\nCMD x\nENTRYPOINT y\nFROM a\nENTRYPOINT z\n")
    assert [step.drops_inherited for step in recipe.steps if isinstance(step, Command)] == [False, False, True]


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("NONE", {"Test": ["NONE"]}), ("none", {"Test": ["NONE"]}), ("CMD a  b", {"Test": ["CMD-SHELL", "a  b"]}),
        ('cmd ["a"]', {"Test": ["CMD", "a"]}),
        ("--interval=1h1m1.5s --retries=3 CMD a",
         {"Test": ["CMD-SHELL", "a"], "Interval": 3661500000000, "Retries": 3}),
        ("--timeout=.5s --start-period=1ms --start-interval='2s' CMD a",
         {"Test": ["CMD-SHELL", "a"], "Timeout": 500000000, "StartPeriod": 1000000, "StartInterval": 2000000000}),
        ("--interval=0 --retries=0 CMD a", {"Test": ["CMD-SHELL", "a"]}),
        ("--interval=1500µs CMD a", {"Test": ["CMD-SHELL", "a"], "Interval": 1500000}),
    ],
)
def test_health_checks_are_read(line: str, check: dict[str, t.Any]) -> None:
    found: Health = only(f"HEALTHCHECK {line}")
    assert found.check == check


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("80", ["80/tcp"]), ("80 81/UDP", ["80/tcp", "81/udp"]), ("80-82/sctp", ["80/sctp", "81/sctp", "82/sctp"]),
        ("$P", ["1/tcp", "2/udp"]), ("8080:80", ["80/tcp"]), ("80/", ["80/tcp"]), ("65535", ["65535/tcp"]),
    ],
)
def test_ports_are_named_with_their_protocol(line: str, names: list[str]) -> None:
    found: Names = only(f"EXPOSE {line}", environment={"P": "1 2/udp"})
    assert found.names == tuple(names)


@pytest.mark.parametrize(
    ("line", "names"), [("/a $B", ["/a", "b c"]), ('["/a b", "$B"]', ["/a b", "b c"]), ("[a", ["[a"])]
)
def test_volumes_have_two_forms(line: str, names: list[str]) -> None:
    found: Names = only(f"VOLUME {line}", environment={"B": "b c"})
    assert found.names == tuple(names)


@pytest.mark.parametrize("value", ["SIGTERM", "term", "9", "sigrtmin+3", "RTMAX-14", "$S"])
def test_signals_are_kept_as_written(value: str) -> None:
    found: Setting = only(f"STOPSIGNAL {value}", environment={"S": "HUP"})
    assert found.value == value.replace("$S", "HUP")


def test_working_folder_and_user_are_read() -> None:
    folder: WorkingFolder = only("WORKDIR $A/b c", environment={"A": "/a"})
    user: Setting = only("USER $A:x", environment={"A": "a"})
    assert (folder.path, user.value) == ("/a/b c", "a:x")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("COPY a b /x/", (("a", "b"), "/x/", (0, 0), None)),
        ('COPY ["a b", "/x y"]', (("a b",), "/x y", (0, 0), None)),
        ("ADD a /x", (("a",), "/x", (0, 0), None)),
        ("COPY --chown=1:2 --chmod=755 a /x", (("a",), "/x", (1, 2), 0o755)),
        ("COPY --chown=5 --link a /x", (("a",), "/x", (5, 5), None)),
        ("COPY --chown=root:7 --link=false a /x", (("a",), "/x", (0, 7), None)),
        ("COPY --chown=$O --chmod=${M} a$O /x", (("a3:4",), "/x", (3, 4), 0o4711)),
        ('COPY --chown="1:2" \\\n a /x', (("a",), "/x", (1, 2), None)),
        ("COPY -- --a /x", (("--a",), "/x", (0, 0), None)),
    ],
)
def test_copies_are_read(line: str, found: tuple[t.Any, ...]) -> None:
    step: Copy = only(line, environment={"O": "3:4", "M": "4711"})
    assert (step.sources, step.destination, step.owner, step.mode) == found
    assert step.word == line.split(maxsplit=1)[0]


def test_step_has_its_line_and_text() -> None:
    (step,) = read("# c\n\nFROM x\n\n  user \\\n   a\n").steps
    assert (step.line, step.text) == (5, "user    a")


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RUN x", "nothing is run here"), ("ONBUILD RUN x", "triggers"), ('SHELL ["x"]', "JSON form"),
        ("MAINTAINER x", "LABEL"), ("FOO x", "'FOO' is no instruction"), ("-x", "'-x' is no instruction"),
        ("ENV\\\nA=b", "'ENVA=b' is no instruction"), ("COPY --from=x a /b", "other stages"),
        ("COPY --from=0 a /b", "other stages"), ("ADD --from=x a /b", "--from is not known"),
        ("COPY --parents a /b", "--parents is not known"), ("COPY --exclude=x a /b", "--exclude is not known"),
        ("ADD --checksum=x a /b", "--checksum is not known"), ("COPY --chown=me a /b", "give numbers"),
        ("COPY --chown=1:users a /b", "give numbers"), ("COPY --chown=4294967295 a /b", "give numbers"),
        ("COPY --chown= a /b", "no value"), ("COPY --chmod=u+x a /b", "octal"), ("COPY --chmod=999 a /b", "octal"),
        ("COPY --link=no a /b", "neither true nor false"), ("COPY --chown=1 --chown=2 a /b", "twice"),
        ("COPY a", "sources and a destination"), ('COPY ["a"]', "sources and a destination"), ("COPY", "an argument"),
        ("COPY $N /b", "none of them empty"), ("ADD https://x.invalid/a /b", "not fetched"),
        ("ADD git@x.invalid:a.git /b", "not fetched"), ("ADD github.com/a/b /b", "not fetched"),
        ("COPY <<EOF /b\nRUN y\nEOF", "heredocs"), ("RUN <<-'EOF'\nfoo bar\nEOF", "heredocs"),
        ("COPY <<EOF /b", "heredocs"), ("CMD --x a", "--x is not known"), ("CMD [1]", "strings only"),
        ("CMD", "an argument"), ("EXPOSE x", "no port"), ("EXPOSE 70000", "no port"), ("EXPOSE 9-8", "no port"),
        ("EXPOSE 80/foo", "no port"), ("STOPSIGNAL FOO", "no signal"), ("STOPSIGNAL 0", "no signal"),
        ("HEALTHCHECK NONE x", "neither NONE nor CMD"), ("HEALTHCHECK CMD", "neither NONE nor CMD"),
        ("HEALTHCHECK FOO x", "neither NONE nor CMD"), ("HEALTHCHECK --interval=5 CMD a", "no duration"),
        ("HEALTHCHECK --interval=1us CMD a", "no duration"), ("HEALTHCHECK --interval=-1s CMD a", "no duration"),
        ("HEALTHCHECK --interval=9999999999h CMD a", "no duration"), ("HEALTHCHECK --retries=x CMD a", "no number"),
        ("HEALTHCHECK --foo=x CMD a", "--foo is not known"), ("VOLUME []", "needs a path"),
        ("VOLUME $N", "needs a path"),
        ("WORKDIR $N", "empty"), ("ENV A", "NAME=VALUE"), ("ENV A=b c", "NAME=VALUE"), ("ENV =b", "name is empty"),
        ("LABEL $N=x", "name is empty"), ("ARG", "an argument"), ("ARG =x", "name is empty"),
        ("ENV A='x", "single quote"), ('ENV A="x', "double quote"), ("ENV A=${x", "not understood"),
        ("ENV A=${x:-y", "closing '}'"), ("ENV A=${x%y}", "not understood"), ("ENV A=${}", "without a name"),
        ("ENV A=${N:?give}", "no value: give"), ("ENV A=${N?}", "it is needed"),
    ],
)
def test_instruction_is_refused_with_its_line(line: str, says: str) -> None:
    cause = refused(f"# c\nFROM x\n{line}\nUSER a\n")
    assert cause.startswith("line 3: ")
    assert says in cause
    assert "; line " not in cause


def test_everything_that_is_refused_is_said_at_once() -> None:
    cause = refused("FROM x AS a\nRUN x\nUSER y\nSHELL []\nFROM a\nCOPY --from=z a b\nARG\n")
    assert [part.split(":")[0] for part in cause.split("; line ")] == ["line 2", "4", "6", "7"]
    assert [word for word in ("2: RUN: ", "4: SHELL: ", "6: COPY: ", "7: ARG: ") if word not in cause] == []


def test_only_arguments_stand_in_front_of_from() -> None:
    assert "in front of the first FROM" in refused("USER a\nFROM x\n")


def test_text_that_looks_like_a_heredoc_in_a_shell_is_no_end_of_the_file() -> None:
    cause = refused("FROM x\nRUN a <<EOF\nRUN b\n")
    assert "line 2: RUN" in cause
    assert "line 3: RUN" in cause


@pytest.mark.parametrize("text", ["FROM x\n\\\n", "FROM x\n\\\n\n"])
def test_empty_continuation_is_nothing(text: str) -> None:
    assert read(text).steps == ()
