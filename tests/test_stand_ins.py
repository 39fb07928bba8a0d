"""A wrapper behaves like the function that it replaces: every wrapper in a user's process, with all factors active."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor import plugins
from auditor.factors import plan_with
from auditor.launch import launch
from auditor.plan import Plan
from auditor.trace.reader import opened
from tests.processes import SCRIPTS, bare
from tests.test_factor_uses import SilentScreen

FACTORS = plugins.factors()
#: Wrappers that are active in the user's process when there is no GPU.
INSIDE = tuple(name for name, factor in FACTORS.items() if factor.inside is not None and factor.unavailable() is None)
HOW = ("pinned", "varied", "watched")

#: Depends on the type of an object alone: `inspect` reports what it was given, CPython whether weak references are possible, `copy` whether
#: copies are.
OF_THE_TYPE = ("source", "weak", "copied")


@pytest.mark.torch
def test_every_wrapped_function_behaves_like_its_original(tmp_path: Path) -> None:
    script = str(SCRIPTS / "stand_ins.py")
    under: dict[str, dict[str, Any]] = {}
    names: set[tuple[str, ...]] = set()
    for how in HOW:
        chosen = {"pinned": INSIDE if how == "pinned" else (), "varied": INSIDE if how == "varied" else (), "watched": INSIDE}
        plan = plan_with(Plan((script, f"{how}.names", f"{how}.json"), cwd=str(tmp_path)), FACTORS, **chosen)
        launch(plan, tmp_path / how, how, "experiment", SilentScreen(), quiet=True)
        assert opened(tmp_path / how).meta["exit"] == 0, (tmp_path / how / "stderr").read_text()
        under[how] = json.loads((tmp_path / f"{how}.json").read_text())
        names |= {tuple(name) for name in json.loads((tmp_path / f"{how}.names").read_text())}
    (tmp_path / "all.names").write_text(json.dumps(sorted(names)))
    ended = bare(tmp_path, script, "all.names", "bare.json")
    assert ended.status == 0, ended.said
    without = json.loads((tmp_path / "bare.json").read_text())

    ours = {name.rpartition(".")[2] for found in under.values() for name in found} - {name.rpartition(".")[2] for name in without}
    assert {name for name in ours if not name.startswith("__repro_audit_")} == set()
    for found in under.values():
        assert len(set(found) & set(without)) > 50
        for name in sorted(set(found) & set(without)):
            in_class = without[name]["class"] in ("<class 'method_descriptor'>", "<class 'classmethod_descriptor'>")
            facts = {key: value for key, value in found[name].items() if key != "source" and not (in_class and key in OF_THE_TYPE)}
            assert facts == {key: without[name][key] for key in facts}, name
    assert {"time.localtime", "logging.Formatter.converter", "os.getpid", "datetime.datetime.now"} <= set(under["watched"])
