"""Files that a script reads, writes and lists, and the determinism settings that it has and changes, with its lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from tests.recordings import Recorded, record

pytestmark = pytest.mark.torch


def files(recorded: Recorded, mark: str) -> list[dict[str, Any]]:
    """Files that the marked line opened or listed."""
    return [e for e in recorded.events("file") if (e["file"], e["line"]) == ("train.py", recorded.line(mark))]


def test_an_opened_file_is_recorded_with_the_digest_of_its_content(tmp_path: Path) -> None:
    source = """
        import gzip, io, json, os, shutil
        from pathlib import Path
        import numpy as np
        import torch

        Path("data").mkdir()
        with open("data/a.txt", "w") as f:  # written
            f.write("one")
        with open("data/a.txt") as f:  # read
            f.read()
        Path("data/a.txt").read_bytes()  # read by pathlib
        with open("data/a.txt", "a") as f:  # appended
            f.write(" two")
        io.open(b"data/a.txt").close()  # read again
        with open("data/a.txt", "r+b") as f:  # changed in place
            f.write(b"x")
        Path("data/b.txt").write_text("3")  # written by pathlib
        open("data/c.txt", "x").close()  # made
        np.save("data/n.npy", np.arange(3))  # saved by numpy
        np.load("data/n.npy")  # loaded by numpy
        np.loadtxt("data/b.txt")  # text by numpy
        torch.save(torch.ones(2), "data/w.pt")  # saved by torch
        torch.load("data/w.pt")  # loaded by torch
        json.load(open("data/b.txt"))  # json
        with gzip.open("data/z.gz", "wb") as f:  # zipped
            f.write(b"z")
        shutil.copy("data/b.txt", "data/d.txt")  # copied
        os.chdir("data")
        open("b.txt").close()  # from another directory
        os.chdir("..")
        try:
            open("missing.txt")  # missing
        except FileNotFoundError:
            pass
        from multiprocessing import Pipe
        r, w = os.pipe()
        open(w, "w").close()  # a pipe
        open("/dev/null").close()  # a device
        torch.ones(1)
        """
    recorded = record(tmp_path, source)

    def said(mark: str) -> list[tuple[str, str, str | None]]:
        return [(e["path"], e["op"], e.get("mode")) for e in files(recorded, mark)]

    def digest(mark: str) -> tuple[int, int]:
        (event,) = files(recorded, mark)
        return event["digest"], event["size"]

    def of(text: bytes) -> tuple[int, int]:
        return xxh3_64_intdigest(text), len(text)

    assert said("written") == [("data/a.txt", "write", "w")]
    assert "digest" not in files(recorded, "written")[0]
    assert said("read") == [("data/a.txt", "read", "r")]
    assert digest("read") == digest("read by pathlib") == of(b"one")
    assert said("appended") == [("data/a.txt", "write", "a")]
    assert digest("appended") == of(b"one")  # its previous content decides the result
    assert digest("read again") == of(b"one two")
    assert said("changed in place") == [("data/a.txt", "write", "r+b")]
    assert digest("changed in place") == of(b"one two")
    assert said("written by pathlib") == [("data/b.txt", "write", "w")]
    assert said("made") == [("data/c.txt", "write", "x")]
    assert said("saved by numpy") == [("data/n.npy", "write", "wb")]
    assert digest("loaded by numpy") == of((tmp_path / "data" / "n.npy").read_bytes())
    assert digest("text by numpy") == digest("json") == digest("from another directory") == of(b"3")
    assert said("from another directory")[0][0] == "data/b.txt"
    assert [e[:2] for e in said("saved by torch")] == [("data/w.pt", "write")]
    assert digest("loaded by torch") == of((tmp_path / "data" / "w.pt").read_bytes())
    assert [e[:2] for e in said("zipped")] == [("data/z.gz", "write")]
    assert [e[:2] for e in said("copied")] == [("data/b.txt", "read"), ("data/d.txt", "write")]
    assert said("missing") == said("a pipe") == said("a device") == []
    assert [e["file"] for e in recorded.events("file")] == ["train.py"] * len(recorded.events("file"))


def test_a_listing_is_recorded_with_its_order_but_not_those_of_python_or_packages(tmp_path: Path) -> None:
    source = """
        import glob, importlib, inspect, json, os
        from pathlib import Path
        import torch

        for name in "bca":
            Path("data", name + ".txt").parent.mkdir(exist_ok=True)
            Path("data", name + ".txt").touch()
        a = os.listdir("data")  # listdir
        print(os.path.relpath(os.getcwd()), *a)
        a = [e.name for e in os.scandir("data")]  # scandir
        a = glob.glob("data/*.txt")  # glob
        a = list(Path("data").iterdir())  # iterdir
        a = list(os.walk("data"))  # walk
        a = os.listdir()  # here
        try:
            os.listdir("missing")  # missing
        except FileNotFoundError:
            pass
        os.remove("data/a.txt")
        a = os.listdir("data")  # less

        a = open(torch.__file__).read(10), open(json.__file__).read(10)  # sources of the library
        a = os.listdir(os.path.dirname(torch.__file__)), os.listdir(os.path.dirname(os.__file__))  # directories of the library
        a = inspect.getsource(torch.nn.Linear), importlib.import_module("helper")  # sources
        a = Path(torch.__file__).parent.joinpath("version.py").read_text()  # a file of a package
        torch.ones(1)
        """
    recorded = record(tmp_path, source, helper="x = 1\n")

    names = recorded.out[0].split()[1:]
    expected = (xxh3_64_intdigest("\n".join(names).encode()), 3)
    for mark in ("listdir", "scandir", "glob", "iterdir", "walk"):
        found = files(recorded, mark)
        assert [(e["path"], e["op"]) for e in found] == [("data", "list")]
        assert (found[0]["digest"], found[0]["size"]) == expected
    assert [(e["path"], e["op"]) for e in files(recorded, "here")] == [(".", "list")]
    assert [(e["size"], e["digest"] == expected[0]) for e in files(recorded, "less")] == [(2, False)]
    for mark in ("missing", "sources of the library", "directories of the library", "sources", "a file of a package"):
        assert files(recorded, mark) == []


def test_initial_settings_and_each_change_with_its_line_are_recorded(tmp_path: Path) -> None:
    source = """
        import os, warnings
        warnings.simplefilter("ignore")
        os.environ["OMP_NUM_THREADS"] = "1"
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(2)  # threads
        torch.set_num_threads(2)  # the same threads
        torch.use_deterministic_algorithms(True)  # deterministic
        torch.use_deterministic_algorithms(True, warn_only=True)  # warn
        torch.backends.cudnn.benchmark = True  # benchmark
        torch.backends.cudnn.deterministic = True  # cudnn
        torch.backends.cudnn.deterministic = True  # cudnn again
        with torch.backends.cudnn.flags(enabled=False, benchmark=True, deterministic=True):  # for a moment
            torch.ones(1)  # without cudnn
        torch.set_float32_matmul_precision("high")  # precision
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False  # half
        if hasattr(torch.backends.cudnn, "conv"):
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # the newer interface
        torch.set_default_dtype(torch.float64)  # dtype
        torch.set_default_device("cpu")  # the device as it is
        w = torch.ones(2, requires_grad=True)  # of this type
        optimizer = torch.optim.SGD([w], lr=0.1)
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # of the workspace
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # workspace as it is
        del os.environ["OMP_NUM_THREADS"]
        os.environ["SOMETHING_ELSE"] = "1"
        w.sum().backward()
        optimizer.step()  # step
        w.sum().backward()
        optimizer.step()
        print(before)
        """
    recorded = record(tmp_path, source)
    first = {e["name"]: e["value"] for e in recorded.events("setting") if e["initial"]}
    changes = [e for e in recorded.events("setting") if not e["initial"]]

    assert first["environ:OMP_NUM_THREADS"] == "1"  # set before torch was imported: it counts
    assert [first["torch.get_num_threads"]] == [int(recorded.out[0])] == [1]
    assert first["torch.get_default_dtype"] == "torch.float32"
    assert first["torch.are_deterministic_algorithms_enabled"] is False
    assert first["environ:PYTHONHASHSEED"] == os.environ.get("PYTHONHASHSEED")
    assert all("line" not in e for e in recorded.events("setting") if e["initial"])
    assert len([e for e in recorded.events("setting") if e["initial"]]) == len(first)

    def changed(mark: str) -> dict[str, object]:
        return {e["name"]: e["value"] for e in changes if (e.get("file"), e.get("line")) == ("train.py", recorded.line(mark))}

    assert changed("threads") == {"torch.get_num_threads": 2}
    assert changed("deterministic") == {"torch.are_deterministic_algorithms_enabled": True}
    assert changed("warn") == {"torch.is_deterministic_algorithms_warn_only_enabled": True}
    assert changed("benchmark") == {"torch.backends.cudnn.benchmark": True}
    assert changed("cudnn") == {"torch.backends.cudnn.deterministic": True}
    assert changed("precision")["torch.get_float32_matmul_precision"] == "high"
    assert changed("half") == {"torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction": False}
    if "torch.backends.cudnn.conv.fp32_precision" in first:  # since torch 2.9
        assert changed("the newer interface") == {"torch.backends.cudnn.conv.fp32_precision": "ieee"}
    assert changed("dtype") == {"torch.get_default_dtype": "torch.float64"}
    assert changed("of the workspace") == {"environ:CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    for mark in ("the same threads", "cudnn again", "the device as it is", "workspace as it is"):
        assert changed(mark) == {}
    assert recorded.op("of this type").dtype == "float64"

    # restored at the end of the block, and so without a line
    polled = [e for e in changes if "line" not in e]
    cudnn = [(e["name"], e["value"], e["row"]) for e in polled if e["name"] == "torch.backends.cudnn.enabled"]
    inside = recorded.op("without cudnn").row
    assert [(value, row <= inside) for _, value, row in cudnn] == [(False, True), (True, False)]

    # changed in a way that is not watched: noticed at the end of the step, once and without a line
    polled = [e for e in polled if "cudnn" not in e["name"]]
    assert [(e["name"], e["value"]) for e in polled] == [("environ:OMP_NUM_THREADS", None)]
    assert polled[0]["row"] == recorded.events("step")[0]["row"]


def test_a_digest_of_stdin_is_recorded(tmp_path: Path) -> None:
    source = """
        import torch
        lr = input("lr? ")  # asked
        torch.ones(1)
        """
    from auditor.trace.reader import opened
    from tests.processes import audited, write

    write(tmp_path, train=source)
    done = audited(tmp_path, "record", "-o", "run", "train.py", stdin=b"0.7134\n")
    assert done.status == 0, done.said
    recorded = Recorded(tmp_path, source, opened(tmp_path / "run"))

    (asked,) = files(recorded, "asked")
    assert (asked["path"], asked["op"], asked["digest"]) == ("<stdin>", "input", xxh3_64_intdigest(b"0.7134"))
    for kept in (tmp_path / "run").rglob("*"):
        assert kept.is_dir() or b"0.7134" not in kept.read_bytes()  # it may have been a password


def test_setting_the_hash_seed_is_always_too_late_unlike_other_variables(tmp_path: Path) -> None:
    source = """
        import os
        os.environ["MKL_NUM_THREADS"] = "1"
        os.environ["PYTHONHASHSEED"] = "7"  # hash seed
        import torch
        torch.ones(2)
        """
    changes = [e for e in record(tmp_path, source).events("setting") if not e["initial"]]
    assert [(e["name"], e["value"], e["line"]) for e in changes] == [("environ:PYTHONHASHSEED", "7", 3)]
