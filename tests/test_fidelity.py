"""A script behaves the same with and without the recorder: what it sees of itself, what it prints, how it ends.

The oracle is the interpreter: each script runs under plain `python` and under `repro-audit record` in the same directory, and the two are
compared. Intended differences are named here, with their reasons.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auditor.trace.reader import opened
from auditor.trace.tables import Tables
from tests.processes import SCRIPTS, Ended, audited, bare, ended_by, environment, kept, made_once, recorded, start, write

#: Modules that the recorder loads before the script starts: standard library, all cheap and without side effects.
LOADED_BY_US = {
    "__future__", "_collections", "_ctypes", "_functools", "_json", "_opcode", "_operator", "_sre", "_struct", "_typing", "_weakrefset", "array",
    "atexit", "collections", "collections.abc", "contextlib", "copyreg", "ctypes", "ctypes._endian", "enum", "errno", "functools", "gc", "importlib",
    "importlib._bootstrap", "importlib._bootstrap_external", "importlib.machinery", "itertools", "json", "json.decoder", "json.encoder",
    "json.scanner", "keyword", "mmap", "opcode", "operator", "re", "re._casefix", "re._compiler", "re._constants", "re._parser", "reprlib", "sitecustomize",
    "struct", "types", "typing", "typing.io", "typing.re", "warnings", "weakref",
    # Python 3.10
    "sre_compile", "sre_constants", "sre_parse",
    # Python 3.12 and later
    "_ctypes._endian", "importlib._abc", "_suggestions",
}  # fmt: skip


def both(folder: Path, *script: str, **how: Any) -> tuple[Ended, Ended]:
    """How a script ends without and with the recorder."""
    return bare(folder, *script, **how), recorded(folder, folder / "run", *script, **how)


def plain_addresses(said: bytes) -> bytes:
    """The output without memory addresses, which differ between processes."""
    return re.sub(rb"0x[0-9a-f]{6,}", b"0x...", said)


def mirrored(folder: Path, *script: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `mirror.py` saw without and with the recorder, except intended differences."""
    facts = []
    for run in (bare, lambda cwd, *words, **how: recorded(cwd, folder / "run", *words, **how)):
        out = folder / "facts.json"
        ended = run(folder, *script, **how)
        assert ended.status == 0, ended.said
        facts.append(json.loads(out.read_text()))
        out.unlink()
    without, under = facts
    assert set(under.pop("modules")) - set(without.pop("modules")) <= LOADED_BY_US
    finders = under["meta_path"]
    assert finders.pop(0) == "_Finder"  # how the recorder notices the import of torch
    return without, under


def test_a_script_sees_the_same_of_itself_as_without_the_recorder(tmp_path: Path) -> None:
    without, under = mirrored(tmp_path, str(SCRIPTS / "mirror.py"), "facts.json", "--lr", "0.1", "-o", "x")
    assert under == without
    assert under["auditor"] == []


def test_a_script_sees_the_same_with_a_relative_path_and_interpreter_variables(tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "mirror.py", tmp_path / "mirror.py")
    env = environment(
        PYTHONUTF8="1", PYTHONWARNINGS="ignore::DeprecationWarning", PYTHONHASHSEED="5", PYTHONDONTWRITEBYTECODE="1", LC_ALL="C"
    )
    without, under = mirrored(tmp_path, "./mirror.py", "facts.json", env=env)
    assert under == without
    assert Path(under["file"]) == tmp_path / "mirror.py"


def test_a_script_sees_the_same_when_it_reads_a_file_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_bytes(b"words\n")
    with (tmp_path / "input.txt").open("rb") as file:
        without, under = mirrored(tmp_path, str(SCRIPTS / "mirror.py"), "facts.json", stdin=file)
    assert under == without
    assert under["kinds"][0] == "S_ISREG"
    shutil.rmtree(tmp_path / "run")
    without, under = mirrored(tmp_path, str(SCRIPTS / "mirror.py"), "facts.json", stdin=b"words\n")
    assert under == without
    assert under["kinds"][0] == "S_ISFIFO"


def test_a_script_sees_the_same_when_its_streams_are_closed(tmp_path: Path) -> None:
    facts = []
    for words in ([], ["-m", "auditor", "record", "-o", str(tmp_path / "run")]):
        command = [sys.executable, *words, str(SCRIPTS / "mirror.py"), "facts.json"]
        shell = ["/bin/sh", "-c", 'exec "$@" <&- >&-', "sh", *command]
        subprocess.run(shell, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, check=False, timeout=60)
        facts.append(json.loads((tmp_path / "facts.json").read_text()))
        (tmp_path / "facts.json").unlink()
    without, under = facts
    assert without["streams"]["stdin"] is without["streams"]["stdout"] is None
    for name in ("streams", "kinds"):
        assert under[name] == without[name]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_script_on_a_terminal_sees_a_terminal(tmp_path: Path) -> None:
    facts = []
    for words in ([], ["-m", "auditor", "record", "-o", str(tmp_path / "run")]):
        master, slave = os.openpty()
        try:
            done = subprocess.Popen(
                [sys.executable, *words, str(SCRIPTS / "mirror.py"), "facts.json"],
                cwd=tmp_path, env=environment(TERM="xterm"), stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            )  # fmt: skip
            assert done.wait(60) in (0, 2)  # 2: there was no torch to record
        finally:
            os.close(slave)
            os.close(master)
        facts.append(json.loads((tmp_path / "facts.json").read_text()))
        (tmp_path / "facts.json").unlink()
    without, under = facts
    assert [under["streams"][name][0] for name in ("stdin", "stdout", "stderr")] == [True, True, True]
    for name in ("streams", "kinds", "access", "terminal"):
        assert under[name] == without[name]


@pytest.mark.torch
def test_a_script_sees_the_same_types_and_numbers_of_numpy_and_torch(tmp_path: Path) -> None:
    without, under = mirrored(tmp_path, str(SCRIPTS / "mirror.py"), "facts.json", "--torch")
    assert under == without
    assert all(under["generators"]["types"])


def test_a_library_function_kept_by_a_class_is_not_bound_to_its_instances(tmp_path: Path) -> None:
    """`pathlib` of Python 3.10 keeps `io.open` and `os.listdir` this way."""
    write(
        tmp_path,
        train="""
            import io, os, random

            class Kept:
                open, io_open, listdir, scandir, random, sample = open, io.open, os.listdir, os.scandir, random.random, random.sample

            kept = Kept()
            random.seed(1)
            print(kept.open(__file__).read(4), kept.io_open(__file__).read(4), len(kept.listdir(".")) > 0, kept.random(), kept.sample([1, 2], 1))
            print(sum(1 for _ in kept.scandir(".")) > 0)
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert under == without


def test_a_module_and_a_directory_run_as_without_the_recorder(tmp_path: Path) -> None:
    mirror = (SCRIPTS / "mirror.py").read_text()
    package = write(tmp_path / "pkg", __init__="", __main__="")
    (package / "mod.py").write_text(mirror)
    (package / "__main__.py").write_text(mirror)
    for script in (["-m", "pkg.mod"], ["-m", "pkg"], ["pkg"]):
        without, under = mirrored(tmp_path, *script, "facts.json", "--json", "-m")
        assert under == without
        shutil.rmtree(tmp_path / "run")


def test_a_users_own_module_is_imported_even_if_the_recorder_has_one_of_its_name(tmp_path: Path) -> None:
    names = ("auditor", "xxhash", "json", "mmap", "ctypes", "reprlib", "sitecustomize", "lane", "digest", "trace")
    own = write(tmp_path / "own", **{name: f"name = 'my {name}'" for name in names if name != "auditor"})
    write(own / "auditor", __init__="name = 'my auditor'")
    script = f"""
        import importlib, sys
        print([importlib.import_module(name).name for name in {names}])
        print(sorted(n for n in sys.modules if 'auditor' in n or 'xxhash' in n))
        """
    write(own, train=script)
    write(tmp_path / "lib", xxhash="name = 'my xxhash'")
    write(tmp_path, elsewhere="import xxhash; print(xxhash.name)")
    command = str(Path(sys.executable).with_name("repro-audit"))
    for cwd, name, env in ((own, "train.py", environment()), (tmp_path, "elsewhere.py", environment(PYTHONPATH="lib"))):
        without = bare(cwd, name, env=env)
        assert (without.status, without.out.count(b"my xxhash")) == (0, 1), without.said
        run = tmp_path / f"run-{name}"
        done = start([command, "record", "-o", str(run), name], cwd, env=env)
        assert "[torch-never-imported]" in done.said
        assert kept(run) == without


def test_a_script_named_like_a_module_of_the_recorder_is_not_imported_by_it(tmp_path: Path) -> None:
    write(tmp_path, xxhash="raise SystemExit('imported')", yaml="raise SystemExit('imported')", train="import sys; print(sys.path[0])")
    without, under = both(tmp_path, "train.py")
    assert (under, without.status) == (without, 0)


def test_the_users_sitecustomize_still_runs_even_if_it_raises(tmp_path: Path) -> None:
    site = write(
        tmp_path / "site",
        sitecustomize="""
            import sys
            sys.stderr.write(f"sitecustomize of the user, {__name__}, {__file__}\\n")
            import builtins
            builtins.customized = True
            """,
    )
    broken = write(tmp_path / "broken", sitecustomize="raise ValueError('broken sitecustomize')")
    write(tmp_path, train="import sys; print(customized, sys.modules['sitecustomize'].__file__)", other="print('goes on')")
    without, under = both(tmp_path, "train.py", env=environment(PYTHONPATH=str(site)))
    assert (under, without.status) == (without, 0)
    shutil.rmtree(tmp_path / "run")
    without, under = both(tmp_path, "other.py", env=environment(PYTHONPATH=str(broken)))
    assert (under.status, under.out) == (without.status, without.out) == (0, b"goes on\n")
    assert b"ValueError: broken sitecustomize" in without.err
    assert b"ValueError: broken sitecustomize" in under.err


def test_the_search_path_is_the_users(tmp_path: Path) -> None:
    lib = write(tmp_path / "lib", helper="x = 1")
    write(tmp_path, train="import sys, helper; print(helper.__file__, sys.path)")
    for value in (str(lib), f"{lib}{os.pathsep}", f"{os.pathsep}{lib}", f"lib{os.pathsep}{tmp_path}"):
        without, under = both(tmp_path, "train.py", env=environment(PYTHONPATH=value))
        assert (under, without.status) == (without, 0)
        shutil.rmtree(tmp_path / "run")


@pytest.mark.torch
def test_a_thread_count_set_before_importing_torch_takes_effect(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import os, sys
            assert 'torch' not in sys.modules and 'numpy' not in sys.modules and 'random' not in sys.modules
            os.environ['OMP_NUM_THREADS'] = '1'
            import torch
            print(torch.get_num_threads(), torch.ones(3).sum().item())
            """,
    )
    without, under = both(tmp_path, "train.py", env=environment(OMP_NUM_THREADS=None, MKL_NUM_THREADS=None))
    assert under == without
    assert under.out == b"1 3.0\n"


ENDS = {
    "well": "print('well')",
    "a status": "import sys; sys.exit(3)",
    "a message": "import sys; sys.exit('that is all')",
    "a large status": "import sys; sys.exit(256 + 7)",
    "none": "import sys; sys.exit(None)",
    "an object": "import sys; sys.exit({'a': 1})",
    "an exception": "def f(x):\n    return 1 / x\nf(0)",
    "a chained exception": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error",
    "a group of exceptions": "import asyncio\nasync def f(): raise ValueError('a')\nasyncio.run(f())",
    "a syntax error": "print('never'\n",
    "an interrupt": "raise KeyboardInterrupt",
    "a signal": "import os, signal; print('soon', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "a kill": "import os, signal; print('soon', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
    "a segmentation fault": "import ctypes; print('soon', flush=True); ctypes.string_at(0)",
    "an abort": "import os; print('soon', flush=True); os.abort()",
    "_exit": "import os; print('soon', flush=True); os._exit(5)",
    "_exit without a flush": "import os; print('never'); os._exit(0)",
    "exit handlers": "import atexit; atexit.register(print, 'first'); atexit.register(print, 'second'); print('body')",
    "an exit handler that raises": "import atexit; atexit.register(lambda: 1 / 0); print('body')",
    "an exit handler that exits": "import atexit, os; atexit.register(os._exit, 9); print('body', flush=True)",
    "finally": "import sys\ntry:\n    sys.exit(4)\nfinally:\n    print('finally')",
    "another hook": "import sys\nsys.excepthook = lambda *a: print('hook', a[0].__name__, a[2].tb_lineno)\n1 / 0",
    "a hook that raises": "import sys\ndef hook(*a): raise ValueError('in the hook')\nsys.excepthook = hook\n1 / 0",
    "unraisable": "class A:\n    def __del__(self): 1 / 0\nA()\nprint('on')",
    "a thread that raises": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start(); t.join(); print('on')",
    "a thread that goes on": "import threading, time\ndef f(): time.sleep(0.2); print('later')\nthreading.Thread(target=f).start(); print('end')",
    "a daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print('end')",
    "a warning": "import warnings\ndef f(): warnings.warn('old', stacklevel=2)\nf()",
    "a resource warning": "import warnings\nwarnings.simplefilter('always')\nopen(__file__).read()\nprint('on')",
    "recursion": "import sys\ndef f(n): return f(n + 1)\ntry:\n    f(0)\nexcept RecursionError: print('deep')",
    "exec": "import os, sys; sys.stdout.flush(); os.execv(sys.executable, [sys.executable, '-c', 'print(\"another\"); raise SystemExit(6)'])",
    "a replaced stdout": "import sys, io; sys.stdout = io.StringIO(); print('x'); sys.stderr.write(sys.stdout.getvalue())",
    "a closed stdout": "import os; print('a', flush=True); os.close(1); os.write(2, b'b')",
    "cleared environment": "import os, subprocess, sys; os.environ.clear(); print(subprocess.run([sys.executable, '-c', 'print(1)'], stdout=-1).stdout)",
    "modules cleared": "import sys\nfor n in [n for n in sys.modules if n.startswith('xx')]: del sys.modules[n]\nimport random; print(random.Random(1).sample([1, 2], 1))",
    "isolated child": "import subprocess, sys; print(subprocess.run([sys.executable, '-I', '-c', 'import sys; print(sys.flags.isolated)'], stdout=-1))",
    "fork": "import os, sys\npid = os.fork()\nif not pid:\n    print('child'); sys.exit(7)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    "fork and _exit": "import os\npid = os.fork()\nif not pid:\n    os.write(1, b'child'); os._exit(8)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    "chdir": "import os, tempfile\nos.chdir(tempfile.gettempdir()); print(os.getcwd()); 1 / 0",
    "a directory that is gone": "import os, tempfile\nd = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d); print(open(__file__).readline())",
    "binary": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 3); sys.stderr.buffer.write(b'\\xff\\xfe\\x00\\n')",
    "much": "import sys\nfor k in range(3000): print('x' * 100)\nsys.stderr.write('y' * 300_000)",
    "without a newline": "print('no newline', end='')",
    "carriage returns": "import sys\nfor k in range(3): print(k, end='\\r\\n\\t\\x1b[0m', flush=True)",
    "surrogates": "import os; os.write(1, '\\udcff\\n'.encode('utf-8', 'surrogateescape'))",
}  # fmt: skip


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in ENDS.items()])
def test_a_script_ends_and_prints_as_without_the_recorder(source: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(source)
    without, under = both(tmp_path, "train.py")
    assert (under.status, under.out, plain_addresses(under.err)) == (without.status, without.out, plain_addresses(without.err))


def test_script_output_passes_through_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(ENDS["binary"])
    done = audited(tmp_path, "record", "-o", "run", "train.py")
    assert done.out == bytes(range(256)) * 3
    assert done.err.startswith(b"\xff\xfe\x00\n")


def test_stdout_and_stderr_keep_their_order_if_they_are_one_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import os
            for k in range(200):
                os.write(1, b"out %d\\n" % k)
                os.write(2, b"err %d\\n" % k)
            """,
    )
    wanted = b"".join(b"out %d\nerr %d\n" % (k, k) for k in range(200))
    with (tmp_path / "both.txt").open("wb") as file:
        audited(tmp_path, "record", "-o", "run", "train.py", stdout=file, stderr=subprocess.STDOUT)
    assert (tmp_path / "both.txt").read_bytes().startswith(wanted)


def test_a_script_reads_the_same_stdin_as_without_the_recorder(tmp_path: Path) -> None:
    write(tmp_path, train="import sys; print(repr(sys.stdin.readline()), repr(sys.stdin.buffer.read()))")
    data = b"first\n" + bytes(range(256)) * 2000
    without, under = both(tmp_path, "train.py", stdin=data)
    assert under.status == without.status
    assert under.out == without.out
    (tmp_path / "input.bin").write_bytes(b"skipped\nfirst\nrest")
    shutil.rmtree(tmp_path / "run")
    outs = []
    for run in (bare, lambda *words, **how: recorded(words[0], tmp_path / "run", *words[1:], **how)):
        with (tmp_path / "input.bin").open("rb", buffering=0) as file:
            file.read(8)
            outs.append(run(tmp_path, "train.py", stdin=file))
    assert outs[0] == outs[1]
    assert outs[0].out.startswith(b"'first\\n' ")


@pytest.mark.torch
def test_every_control_run_gets_the_same_input(tmp_path: Path) -> None:
    source = """
        import sys, torch
        x = torch.tensor([float(line) for line in sys.stdin])
        print(x.sum().item())
        """
    write(tmp_path, train=source)
    (tmp_path / "numbers.txt").write_text("1\n2\n4\n")
    piped = audited(tmp_path, "--effort", "compare", "-o", "piped", "train.py", stdin=b"1\n2\n4\n")
    with (tmp_path / "numbers.txt").open("rb") as file:
        from_file = audited(tmp_path, "--effort", "compare", "-o", "from-file", "train.py", stdin=file)
    for done, folder in ((piped, "piped"), (from_file, "from-file")):
        assert done.status == 0, done.said
        assert [kept(tmp_path / folder / name).out for name in ("control-1", "control-2")] == [b"7.0\n", b"7.0\n"]


def test_child_processes_behave_as_without_the_recorder(tmp_path: Path) -> None:
    write(
        tmp_path,
        child="import sys; print('child', sys.argv, __name__); sys.exit(3)",
        train="""
            import multiprocessing, os, subprocess, sys

            def work(queue, n):
                queue.put((n, multiprocessing.current_process().name, __name__))

            if __name__ == "__main__":
                for method in ("fork", "spawn", "forkserver"):
                    context = multiprocessing.get_context(method)
                    queue = context.Queue()
                    children = [context.Process(target=work, args=(queue, n)) for n in range(2)]
                    [child.start() for child in children]
                    print(method, sorted(queue.get() for _ in children), flush=True)
                    [child.join() for child in children]
                    print([child.exitcode for child in children], flush=True)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(abs, [-1, 2]), flush=True)
                print(subprocess.run([sys.executable, "child.py", "--x"]).returncode, flush=True)
                print(subprocess.run(["env"], capture_output=True).stdout.count(b"PATH=") >= 1)
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert under == without
    assert b"spawn [(0, " in under.out


def test_a_signal_reaches_the_scripts_handler(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import os, signal
            signal.signal(signal.SIGTERM, lambda *a: print("asked to end"))
            signal.signal(signal.SIGUSR1, lambda *a: print("user"))
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR1)
            signal.alarm(60)
            print(signal.alarm(0) > 50)
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert under == without
    assert under.out == b"asked to end\nuser\nTrue\n"


def test_a_script_that_removes_its_run_directory_ends_as_without_the_recorder(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import os, random, shutil
            if os.path.isdir("run"):
                shutil.rmtree("run")
            random.seed(1)
            print(random.sample(range(9), 3), open(__file__).readline())
            """,
    )
    without = bare(tmp_path, "train.py")
    done = audited(tmp_path, "record", "-o", "run", "train.py")
    assert done.out == without.out
    assert done.status == 2
    assert "[run-directory-gone]" in done.said
    assert "Traceback" not in done.said


TRACEBACKS = SCRIPTS / "raises.py"
_CASES = re.findall(r"^@case\ndef (\w+)", TRACEBACKS.read_text(), re.MULTILINE)


def sections(said: bytes) -> dict[str, str]:
    """The output of each case of `raises.py`."""
    text = plain_addresses(said).decode()
    names_and_texts = re.split(r"^== (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(names_and_texts[::2], names_and_texts[1::2], strict=True))


@pytest.fixture(scope="session")
def tracebacks(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """The output of the cases of `raises.py`, without and with the recorder."""
    without, under = made_once(tmp_path_factory, "tracebacks", _tracebacks)[1]
    return without, under


def _tracebacks(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    (folder / "module_with_a_syntax_error.py").write_text("def broken(:\n")
    shutil.copy(SCRIPTS / "module_that_raises.py", folder)
    shutil.copy(TRACEBACKS, folder)
    without, under = both(folder, "raises.py")
    assert (without.status, under.status) == (0, 0), under.said
    return sections(without.err), sections(under.err)


@pytest.mark.torch
@pytest.mark.parametrize("case", _CASES)
def test_a_traceback_is_that_of_plain_python(case: str, tracebacks: tuple[dict[str, str], dict[str, str]]) -> None:
    without, under = tracebacks
    assert without[case]
    assert under[case] == without[case]


UNCAUGHT = {
    "user code": "raise ValueError(x.sum().item())",
    "an op": "x @ torch.ones(5)",
    "a module": "torch.nn.Linear(2, 2)(x)",
    "a backward pass": "x.sum().backward()\n(x * 2).backward()",
    "a draw": "import random; random.sample([1], 2)",
    "a seed": "torch.manual_seed('x')",
    "a file": "open('there-is-none')",
    "a second error": "try:\n    x @ torch.ones(5)\nexcept RuntimeError:\n    open('there-is-none')",
    "an exit within a step": "import sys\nopt = torch.optim.SGD([x], lr=1.0)\nopt.step(lambda: sys.exit(5))",
}


@pytest.mark.torch
@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in UNCAUGHT.items()])
def test_an_uncaught_exception_ends_a_script_as_without_the_recorder(source: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f"import torch\nx = torch.ones(3, requires_grad=True)\n{source}\n")
    without, under = both(tmp_path, "train.py")
    assert under == without
    assert without.status in (1, 5)


@pytest.mark.torch
def test_copied_and_saved_objects_are_the_same_to_the_byte(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import copy, hashlib, io, pickle, random
            import numpy as np
            import torch
            from torch import nn

            def digest(data):
                return hashlib.sha256(data).hexdigest()

            def saved(value):
                file = io.BytesIO()
                torch.save(value, file)
                return digest(file.getvalue())

            torch.manual_seed(0), np.random.seed(0), random.seed(0)
            model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
            optimizer = torch.optim.Adam(model.parameters())
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.randn(5, 4)).square().sum().backward()
                optimizer.step()
            other = copy.deepcopy(model)
            torch.save(model.state_dict(), "weights.pt")
            print(digest(open("weights.pt", "rb").read()))
            print(saved(model), saved(other), saved(optimizer.state_dict()))
            other.load_state_dict(torch.load("weights.pt"))
            print(saved(other.state_dict()), saved(copy.deepcopy(optimizer).state_dict()))
            generator = torch.Generator().manual_seed(5)
            print(saved(generator.get_state()), saved(torch.get_rng_state()))
            rng = pickle.loads(pickle.dumps(np.random.default_rng(3)))
            print(rng.random(), copy.deepcopy(rng).random(), pickle.loads(pickle.dumps(random.Random(3))).random())
            print(digest(pickle.dumps(np.random.get_state())), digest(pickle.dumps(random.getstate())))
            print([k for k in vars(model[0]) if not k.startswith("_")], vars(model[0].weight), model[0].weight.__dict__)
            print(sorted(k for k in vars(optimizer)), len(optimizer._optimizer_step_pre_hooks), len(model._forward_hooks))
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert under == without


@pytest.mark.torch
def test_wrapped_functions_can_be_pickled_inspected_and_passed_like_the_originals(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import inspect, io, os, pickle, random
            import numpy as np
            import torch

            watched = {
                "open": open, "io.open": io.open, "listdir": os.listdir, "scandir": os.scandir, "input": input,
                "random": random.random, "sample": random.sample, "random.seed": random.seed, "Random.sample": random.Random.sample,
                "rand": np.random.rand, "np.seed": np.random.seed, "default_rng": np.random.default_rng,
                "manual_seed": torch.manual_seed, "save": torch.save, "set_num_threads": torch.set_num_threads,
            }
            for name, function in watched.items():
                try:
                    data = pickle.dumps(function)
                    again = callable(pickle.loads(data))
                except Exception as error:
                    again = type(error).__name__
                print(name, function.__name__, callable(function), again)
            print(inspect.signature(torch.save), inspect.signature(random.sample), inspect.signature(random.Random.sample))
            print(inspect.signature(torch.optim.SGD), inspect.signature(torch.optim.Optimizer.__init__))
            print(inspect.signature(np.random.Generator.shuffle))
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert under == without


@pytest.mark.torch
def test_wrapped_functions_can_be_called_in_code_that_dynamo_compiles(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import random
            import torch

            @torch.compile(backend="eager")
            def noisy(x):
                torch.manual_seed(3)
                y = x * random.random() + torch.randn(3)
                torch.set_num_threads(1)
                return y.sum()

            random.seed(0)
            x = torch.ones(3, requires_grad=True)
            loss = noisy(x)
            loss.backward()
            print(loss.item(), x.grad.tolist(), torch.get_num_threads(), random.random(), torch.randn(1).item())
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert (under.status, under.out) == (without.status, without.out)  # without the recorder Dynamo warns about the C functions among them
    (lane,) = opened(tmp_path / "run").lanes.values()
    assert [draw["op"] for draw in lane.draws] == ["random.random", "aten.randn.default"] * 2
    # Dynamo restores streams around all that it compiles: were our functions among it, there would be dozens
    assert len(lane.events_of("seed")) <= 3
    assert "auditor" not in under.said


@pytest.mark.torch
def test_objects_with_lazy_attributes_are_not_searched_for_names_of_leaves(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import torch

            class Odd(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.inner = torch.nn.Linear(2, 2)

                def named_parameters(self, *_args, **_kwargs):
                    raise RuntimeError("my own")

                named_modules = named_parameters

                def forward(self, x):
                    return self.inner(x)

            class Proxy:
                @property
                def __class__(self):
                    print("looked at")
                    return object

            class Sly:
                def __getattribute__(self, name):
                    print("asked for", name)
                    return object.__getattribute__(self, name)

            torch.manual_seed(0)
            proxy, sly, model = Proxy(), Sly(), Odd()
            w = torch.ones(2, requires_grad=True)
            (model(torch.ones(1, 2)) * w).sum().backward()
            print(w.grad.tolist())
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert (under.status, under.out) == (without.status, without.out)
    with Tables(opened(tmp_path / "run")) as tables:
        named = {row["leaf"] for row in tables.query("SELECT leaf FROM gradients")}
    assert named == {"w", "model.inner.weight", "model.inner.bias"}


@pytest.mark.torch
def test_the_users_own_modes_work_as_without_the_recorder(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import torch
            from torch.overrides import TorchFunctionMode
            from torch.utils._python_dispatch import TorchDispatchMode
            from torch.utils.flop_counter import FlopCounterMode

            class Log(TorchDispatchMode):
                def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                    print(" ", func, types)
                    return func(*args, **(kwargs or {}))

            class Functions(TorchFunctionMode):
                def __torch_function__(self, func, types, args=(), kwargs=None):
                    print(" ", getattr(func, "__name__", func))
                    return func(*args, **(kwargs or {}))

            torch.manual_seed(0)
            layer = torch.nn.Linear(3, 3)
            x = torch.randn(2, 3)
            with Log():
                layer(x).sum().backward()
            with Functions():
                layer(x).sum()
            with FlopCounterMode(display=False) as counter:
                layer(x).sum().backward()
            print(counter.get_total_flops(), sorted(counter.get_flop_counts()))
            with Log(), torch.no_grad():
                print(layer(x).requires_grad)
            with torch.inference_mode():
                y = layer(x)
                print(y.is_inference(), y.requires_grad)
            with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
                layer(x).pow(2).sum().backward()
            print(layer.weight.grad.sum().item(), layer.weight.grad_fn, y.sum().item())
            with torch.autocast("cpu", torch.bfloat16):
                print(layer(x).dtype)
            print([type(m).__name__ for m in torch.utils._python_dispatch._get_current_dispatch_mode_stack()][1:])
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert under == without


@pytest.mark.torch
def test_a_profiler_sees_the_same_ops_as_without_the_recorder(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import torch
            torch.manual_seed(0)
            layer = torch.nn.Linear(3, 3)
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
            with torch.autograd.profiler.profile() as profile:
                layer(torch.randn(2, 3)).sum().backward()
                optimizer.step()
            # under any mode each op passes the profiler twice, so the numbers are not compared
            print(sorted(e.key for e in profile.key_averages() if e.key.startswith("aten::")))
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert under.out == without.out  # the profiler itself prints the time to stderr


@pytest.mark.torch
def test_a_script_with_processes_threads_and_workers_ends_with_the_same_bits(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="""
            import hashlib, os, random, threading
            import numpy as np
            import torch
            import torch.multiprocessing as mp
            from torch.utils.data import DataLoader, Dataset

            class Noise(Dataset):
                def __len__(self):
                    return 8

                def __getitem__(self, k):
                    return torch.randn(3) + float(np.random.rand()) + random.random()

            def child(rank, queue):
                torch.manual_seed(rank)
                queue.put((rank, torch.randn(2).tolist()))

            if __name__ == "__main__":
                torch.manual_seed(0), np.random.seed(0), random.seed(0)
                for method in ("fork", "spawn"):
                    loader = DataLoader(Noise(), batch_size=2, num_workers=2, shuffle=True, multiprocessing_context=method)
                    print(method, [hashlib.sha256(b.numpy().tobytes()).hexdigest()[:8] for b in loader], flush=True)
                queue = mp.get_context("spawn").SimpleQueue()
                mp.spawn(child, args=(queue,), nprocs=2)
                print(sorted(queue.get() for _ in range(2)), flush=True)
                found = [None] * 3

                def work(k):
                    found[k] = torch.full((3,), float(k)).exp().sum().item()

                threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
                [t.start() for t in threads], [t.join() for t in threads]
                print(found, flush=True)
                pid = os.fork()
                if not pid:
                    print("forked", torch.randn(2).tolist(), flush=True)
                    os._exit(0)
                os.waitpid(pid, 0)
                print(torch.randn(2).tolist(), np.random.rand(), random.random())
            """,
    )
    without, under = both(tmp_path, "train.py")
    assert without.status == 0, without.said
    assert under == without


def test_a_script_killed_from_outside_is_reported_as_killed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(ENDS["a kill"])
    under = recorded(tmp_path, tmp_path / "run", "train.py")
    assert ended_by(under.status, __import__("signal").SIGKILL)
