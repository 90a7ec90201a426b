# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents tell the truth: names exist, defaults agree, examples parse, the tarball holds what it should."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tarfile
import typing as t

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(sys.executable).parent
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))


def load(path: pathlib.Path) -> t.Any:
    return yaml.safe_load(path.read_text())


def test_readme_names_each_module_role_and_playbook() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in [*MODULES, *ROLES]:
        assert f"`{name}`" in readme
    for name in set(PLAYBOOKS) - {"demo", "demo_stop"}:
        assert f"`hallmark.signing.{name}`" in readme


def test_readme_shows_the_two_commands_on_its_first_screen() -> None:
    first = (ROOT / "README.md").read_text().splitlines()[:20]
    assert any(line.startswith("./dev demo") for line in first)
    assert any(line.startswith("./dev test") for line in first)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (
    ROOT / "docs").glob("*.md"))])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("role", ROLES)
def test_defaults_of_a_role_are_those_of_its_argument_spec(role: str) -> None:
    defaults = load(ROOT / "roles" / role / "defaults" / "main.yml")
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    documented = {
        name: option["default"]
        for entry in specs.values() for name, option in entry["options"].items() if "default" in option
    }
    assert defaults == documented


@pytest.mark.parametrize("role", ROLES)
def test_variables_of_a_role_begin_with_its_name(role: str) -> None:
    for name in load(ROOT / "roles" / role / "defaults" / "main.yml"):
        assert name.startswith(f"{role}_")
    internal = ROOT / "roles" / role / "vars" / "main.yml"
    for name in load(internal) if internal.exists() else ():
        assert name.startswith(f"__{role}_")


def test_each_module_that_talks_to_registries_is_in_the_action_group() -> None:
    group = load(ROOT / "meta" / "runtime.yml")["action_groups"]["registry"]
    talking = [name for name in MODULES if "registries.registry_spec()" in (
        ROOT / "plugins" / "modules" / f"{name}.py").read_text()]
    assert sorted(group) == talking


def run(*words: str, **options: t.Any) -> str:
    done = subprocess.run(
        [str(BINARIES / words[0]), *words[1:]], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The collection as users have it: built, and installed from the tarball."""
    folder = tmp_path_factory.mktemp("collections")
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(ROOT))
    tarball = next(folder.glob("*.tar.gz"))
    # Without PYTHONPATH, by which the checkout itself would count as installed.
    run("ansible-galaxy", "collection", "install", str(tarball), "-p", str(folder), env=environment(folder))
    return folder


def environment(installed: pathlib.Path) -> dict[str, str]:
    return {
        "PATH": f"{BINARIES}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(installed),
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
    }


def test_tarball_holds_what_users_need_and_nothing_else(installed: pathlib.Path) -> None:
    with tarfile.open(next(installed.glob("*.tar.gz"))) as archive:
        top = {name.partition("/")[0] for name in archive.getnames()}
    assert top == {
        "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "LICENSES", "MANIFEST.json", "README.md",
        "REUSE.toml", "SECURITY.md", "changelogs", "docs", "meta", "playbooks", "plugins", "roles",
    }


@pytest.mark.parametrize("module", MODULES)
def test_documentation_of_an_installed_module_is_shown(installed: pathlib.Path, module: str) -> None:
    shown = run("ansible-doc", f"hallmark.signing.{module}", env=environment(installed), cwd=installed)
    assert "EXAMPLES" in shown


@pytest.mark.parametrize("playbook", PLAYBOOKS)
@pytest.mark.parametrize("inventory", ["demo", "example_fleet"])
def test_installed_playbooks_are_found_by_name(installed: pathlib.Path, playbook: str, inventory: str) -> None:
    run(
        "ansible-playbook", "--syntax-check", "-i", str(ROOT / "inventories" / inventory / "hosts.yml"),
        "-e", '{"demo_engine": false, "demo_directory": "/nowhere", "demo_ports": [1, 2, 3, 4, 5, 6]}',
        f"hallmark.signing.{playbook}", env=environment(installed), cwd=installed,
    )


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_modules_are_valid_tasks(installed: pathlib.Path, tmp_path: pathlib.Path, module: str) -> None:
    text = (ROOT / "plugins" / "modules" / f"{module}.py").read_text()
    match = re.search(r'EXAMPLES = r"""\n(.*?)"""', text, re.DOTALL)
    assert match is not None
    tasks = [
        task for task in yaml.safe_load(match[1]) if not any(name.startswith("community.") for name in task)
    ]
    play = tmp_path / "play.yml"
    play.write_text(yaml.safe_dump([{"hosts": "localhost", "tasks": tasks}]))
    run("ansible-playbook", "--syntax-check", str(play), env=environment(installed), cwd=tmp_path)


def test_nothing_that_can_be_called_reads_what_is_not_installed() -> None:
    called = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "roles").rglob("*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    for path in called:
        assert not re.search(r"\b(tests|inventories)/", path.read_text()), path
