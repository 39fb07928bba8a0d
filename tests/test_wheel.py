"""The wheel has what users need: the recorder's boot file, the rules, the licence, the command; not the tests."""

from __future__ import annotations

import email
import email.message
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from auditor import __version__
from tests.processes import environment, start, write

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the working tree, built as `pip install .` builds it, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    before = set(REPOSITORY.iterdir())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "-w", str(folder), str(REPOSITORY)], capture_output=True, env=environment(), timeout=240, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr.decode()
    assert set(REPOSITORY.iterdir()) == before, "building leaves files behind"
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="session")
def names(wheel: Path) -> set[str]:
    """Names of all files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        return set(archive.namelist())


def _read(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(ending)]
        return archive.read(name).decode()


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> email.message.Message:
    """The metadata for the package index."""
    return email.message_from_string(_read(wheel, ".dist-info/METADATA"))


def _tracked(*folders: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *folders],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    return sorted(name for name in listed.stdout.decode().split("\0") if name and (REPOSITORY / name).exists())


def test_the_wheel_is_pure_python_of_this_version(wheel: Path) -> None:
    assert wheel.name == f"repro_audit-{__version__}-py3-none-any.whl"


def test_the_wheel_has_every_file_of_the_package_and_the_rules(names: set[str]) -> None:
    package = _tracked("auditor")
    rules = [f"auditor/_rules/{name.removeprefix('rules/')}" for name in _tracked("rules")]
    assert "auditor/record/boot/sitecustomize.py" in package
    assert "auditor/_rules/README.md" in rules
    assert {name for name in names if ".dist-info/" not in name} == {*package, *rules}


def test_the_wheel_declares_its_types_the_way_type_checkers_read(names: set[str], metadata: email.message.Message) -> None:
    """PEP 561: the classifier is for people, the marker for type checkers."""
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "auditor/py.typed" in names


def test_the_wheel_has_the_licence_and_the_command(wheel: Path, names: set[str]) -> None:
    assert _read(wheel, ".dist-info/licenses/LICENSE") == (REPOSITORY / "LICENSE").read_text()
    entry_points = ConfigParser()
    entry_points.read_string(_read(wheel, ".dist-info/entry_points.txt"))
    assert dict(entry_points["console_scripts"]) == {"repro-audit": "auditor.cli:main"}
    assert {name.split("/")[0] for name in names} == {"auditor", f"repro_audit-{__version__}.dist-info"}


def test_the_wheel_requires_torch_2_6_or_later_and_nothing_newer(metadata: email.message.Message) -> None:
    requirements = {re.split(r"[^A-Za-z0-9_.-]", line)[0]: line for line in metadata.get_all("Requires-Dist", [])}
    assert requirements["torch"] == "torch>=2.6"
    assert requirements["numpy"] == "numpy"
    assert set(requirements) == {"duckdb", "numpy", "pydantic", "pyyaml", "rich", "tomli", "torch", "typer", "xxhash"}
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"
    # versions pinned by the repository are for its own development
    assert "==" not in " ".join(requirements.values())


@pytest.mark.torch
def test_the_installed_wheel_records_a_script(wheel: Path, tmp_path: Path) -> None:
    """Installed into a folder of its own: nothing from the working tree is used."""
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    write(tmp_path / "project", train="import torch\nprint(torch.ones(3).exp().sum().item())")
    env = environment(PYTHONPATH=str(installed))
    where = start([sys.executable, "-c", "import auditor; print(auditor.__file__)"], tmp_path / "project", env=env)
    assert where.out.decode().strip() == str(installed / "auditor" / "__init__.py")
    done = start([sys.executable, "-m", "auditor", "record", "-o", "run", "train.py"], tmp_path / "project", env=env)
    assert done.status == 0, done.said
    assert "recorded 4 ops" in done.said
    shown = start([sys.executable, "-m", "auditor", "show", "run", "--op", "aten.exp.*"], tmp_path / "project", env=env)
    assert shown.out.count(b"aten.exp.default") == 1


def test_the_source_distribution_has_everything_to_build_and_test(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)],
        cwd=REPOSITORY, env=environment(), capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as file:
        found = {name.split("/", 1)[1] for name in file.getnames()}
    for folder in ("auditor", "rules", "tests", "examples"):
        assert set(_tracked(folder)) <= found
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO"} <= found
    assert not [name for name in found if name.startswith((".venv", ".ci", "dist")) or "__pycache__" in name or os.sep + "." in name]
