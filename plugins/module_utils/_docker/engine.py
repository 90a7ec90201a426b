# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container engine, behind six functions: the only user of the docker SDK.

The SDK has been broken by its own dependencies before; whatever happens there is mended here.
"""

from __future__ import annotations

import os
import re
import typing as t

from .._errors import BuildError
from .._libraries import optional
from .._oci.credentials import Credentials

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode

with optional():
    import docker
    from docker.errors import DockerException, ImageNotFound
    from docker.utils import create_archive, exclude_paths
    from docker.utils.build import PatternMatcher
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

_LOG_LINES = 12
_TIMEOUT = 600


class Engine:
    """A connection to one engine."""

    def __init__(self, docker_host: str | None) -> None:
        """Connect, negotiating the API version.

        C(docker_host) as None means C($DOCKER_HOST), or the usual socket. Raises BuildError (engine_unavailable).
        """
        self._where = docker_host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        try:
            if docker_host:
                self._client = docker.DockerClient(base_url=docker_host, version="auto", timeout=_TIMEOUT)
            else:
                self._client = docker.from_env(version="auto", timeout=_TIMEOUT)
        except _broken() as exc:
            raise BuildError(
                code="engine_unavailable", object=self._where, attempt="reach the container engine",
                cause=_short(exc),
                advice="Start it, or name another in docker_host; the user of this task needs access to its socket.",
            ) from exc

    def image_id(self, name: str) -> str | None:
        """Return the id of an image the engine has, or None."""
        found = self._inspect(name)
        return str(found["Id"]) if found else None

    def label(self, name: str, label: str) -> str | None:
        """Return a label of an image the engine has, or None."""
        found = self._inspect(name) or {}
        labels: t.Mapping[str, str] = (found.get("Config") or {}).get("Labels") or {}
        return labels.get(label)

    def pull(self, name: str, digest: str, *, platform: str | None, credentials: Credentials | None) -> None:
        """Pull C(name@digest). Raises BuildError (build_failed)."""
        self._follow(
            lambda: self._client.api.pull(
                name, tag=digest, platform=platform, auth_config=_auth(credentials), stream=True, decode=True
            ),
            f"{name}@{digest}", "pull the base",
        )

    def build(self, archive: t.IO[bytes], *, tag: str, dockerfile: str, options: t.Mapping[str, t.Any]) -> str:
        """Build an image from a context archive and return its id. Raises BuildError (build_failed)."""
        events = self._follow(
            lambda: self._client.api.build(
                fileobj=archive, custom_context=True, tag=tag, dockerfile=dockerfile, rm=True, forcerm=True,
                decode=True, **options,
            ),
            tag, "build the image",
        )
        ids = [event["aux"]["ID"] for event in events if "ID" in event.get("aux", {})]
        image_id = ids[-1] if ids else self.image_id(tag)
        if not image_id:
            raise _failed(tag, "build the image", "the engine named no image id")
        return image_id

    def tag(self, image_id: str, name: str, tag: str) -> None:
        """Give an image another name. Raises BuildError (build_failed)."""
        try:
            self._client.api.tag(image_id, name, tag)
        except _broken() as exc:
            raise _failed(f"{name}:{tag}", "tag the image", _short(exc)) from exc

    def push(self, name: str, tag: str, *, credentials: Credentials | None) -> str:
        """Push an image and return the digest the engine reports of this very push.

        Raises BuildError (build_failed).
        """
        events = self._follow(
            lambda: self._client.api.push(name, tag=tag, auth_config=_auth(credentials), stream=True, decode=True),
            f"{name}:{tag}", "push the image",
        )
        digests = [event["aux"]["Digest"] for event in events if "Digest" in event.get("aux", {})]
        if not digests:
            raise _failed(f"{name}:{tag}", "push the image", "the engine reported no digest")
        return str(digests[-1])

    def _inspect(self, name: str) -> dict[str, t.Any] | None:
        try:
            api: t.Any = self._client.api
            return dict(api.inspect_image(name))
        except ImageNotFound:
            return None
        except _broken() as exc:
            raise _failed(name, "look at the image", _short(exc)) from exc

    @staticmethod
    def _follow(
        start: t.Callable[[], t.Iterable[dict[str, t.Any]]], where: str, attempt: str
    ) -> list[dict[str, t.Any]]:
        """Read the engine's events to their end; an error event comes after a good status, too."""
        events: list[dict[str, t.Any]] = []
        log: list[str] = []
        try:
            for event in start():
                events.append(event)
                log += [line for line in str(event.get("stream", "")).splitlines() if line.strip()]
                if "error" in event:
                    said = " / ".join([*log[-_LOG_LINES:], str(event["error"]).strip()])
                    raise _failed(where, attempt, said)
        except _broken() as exc:
            raise _failed(where, attempt, _short(exc)) from exc
        return events


def _broken() -> tuple[type[Exception], ...]:
    # An engine that goes away shows as an error of the libraries below the SDK.
    return DockerException, RequestException, HTTPError


def context_files(folder: str, ignore_patterns: list[str], dockerfile: str) -> list[str]:
    """Return the paths of a build context, relative and sorted, as docker itself picks them. Raises BuildError."""
    try:
        return sorted(exclude_paths(folder, ignore_patterns, dockerfile=dockerfile))
    except re.error as exc:
        # The SDK makes regular expressions of the patterns.
        raise _unusable(folder, "malformed", f"a pattern of .dockerignore makes no sense: {exc}") from exc
    except OSError as exc:
        raise _unusable(str(exc.filename or folder), "not_found", exc.strerror or type(exc).__name__) from exc


def leaves_out(ignore_patterns: list[str], path: str) -> bool:
    """Say whether the patterns leave out a path; C(context_files()) takes C(.dockerignore) itself whatever they say."""
    matcher = PatternMatcher(list(ignore_patterns))
    # The last one is the SDK's own exception for that file, which the engine wants and no image does.
    matcher.patterns = matcher.patterns[:-1]
    return bool(matcher.matches(path))  # type: ignore[arg-type]


def context_archive(folder: str, files: list[str], replaced: t.Mapping[str, str]) -> t.IO[bytes]:
    """Return a tar of a build context in which the files C(replaced) have other contents."""
    return t.cast("t.IO[bytes]", create_archive(root=folder, files=files, extra_files=list(replaced.items())))


def _unusable(path: str, code: ReasonCode, cause: str) -> BuildError:
    return BuildError(
        code=code, object=path, attempt="read the build context", cause=cause,
        advice="Check context and its .dockerignore.",
    )


def _auth(credentials: Credentials | None) -> dict[str, str]:
    # An empty mapping, not None: engines from 28.3 end a push without the header in an EOF.
    return {"username": credentials.username, "password": credentials.password} if credentials else {}


def _short(exc: Exception) -> str:
    text = str(getattr(exc, "explanation", None) or exc)
    return text[:500] or type(exc).__name__


def _failed(where: str, attempt: str, cause: str) -> BuildError:
    return BuildError(
        code="build_failed", object=where, attempt=attempt, cause=cause,
        advice="Nothing was signed; mend it and run again.",
    )
