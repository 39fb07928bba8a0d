"""The innermost frame outside torch, numpy, site-packages, the standard library and the auditor.

`places` maps `id(code)` to what a frame of that code means. It holds a reference to each code object (an id without one is
reused), so it is kept small in the one case where code objects are made without end: programs that compile in a loop.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType

from auditor.interruptions import hide_us as hide_us  # where most of those need it that ask for a place

#: What a frame's code object means when it is not the user's: keep walking; autograd's engine was called here; a module was
#: called here; an optimizer stepped here; a tensor from another process or a file is put together here; a module is imported here.
LIBRARY, ENGINE, MODULE, STEP, TRANSPORT, OURS, IMPORT = 1, 2, 3, 4, 5, 6, 7

#: (file name suffix, start of the function's name) -> meaning, for the few frames of torch that tell something.
_TELLING = {
    ("torch/autograd/graph.py", "_engine_run_backward"): ENGINE,
    ("torch/nn/modules/module.py", "_wrapped_call_impl"): MODULE,
    ("torch/optim/optimizer.py", "wrapper"): STEP,
    ("torch/_utils.py", "_rebuild"): TRANSPORT,
    ("torch/multiprocessing/reductions.py", ""): TRANSPORT,
}

Place = dict[int, int] | int


class Sites:
    """Numbers for the places in the user's code from which ops come; `define` is told of each new one."""

    def __init__(self, define: object) -> None:
        self.define = define
        self.places: dict[int, Place] = {}
        self._kept: list[CodeType] = []
        self._next = 1

    def learn(self, code: CodeType) -> Place:
        """Classify a code object met for the first time."""
        place: Place
        if is_user_code(code.co_filename):
            place = {}
        else:
            place = OURS if code.co_filename.startswith(_AUDITOR) else IMPORT if code.co_filename.startswith(_IMPORTING) else LIBRARY
            for (suffix, name), meaning in _TELLING.items():
                if code.co_name.startswith(name) and code.co_filename.replace("\\", "/").endswith(suffix):
                    place = meaning
        self.places[id(code)] = place
        self._kept.append(code)
        return place

    def define_site(self, place: dict[int, int], frame: FrameType, importing: bool = False) -> int:
        """Give a number to the place where this frame of the user's code is; `importing`: where a library that it imports is."""
        code = frame.f_code
        number = self._next
        self._next = number + 1
        self.define(  # type: ignore[operator]  # a callable; object keeps this module free of typing imports
            {
                "k": "site",
                "id": number,
                "file": code.co_filename,
                "line": frame.f_lineno,
                "func": getattr(code, "co_qualname", code.co_name),
                **({"importing": True} if importing else {}),
            }
        )
        place[~frame.f_lasti if importing else frame.f_lasti] = number  # only now: no record may name a place that has no line
        return number

    def site_of(self, frame: FrameType | None) -> int:
        """Number of the innermost user frame from here outwards; 0 if there is none."""
        places = self.places
        importing = False
        while frame is not None:
            place = places.get(id(frame.f_code))
            if place is None:
                place = self.learn(frame.f_code)
            if place.__class__ is dict:
                return place.get(~frame.f_lasti if importing else frame.f_lasti) or self.define_site(place, frame, importing)
            importing = importing or place == IMPORT
            frame = frame.f_back
        return 0


def is_ours(filename: str) -> bool:
    """Whether a file is the auditor's."""
    return filename.startswith(_AUDITOR)


def _directory(path: str | None) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(path)), "") if path else ""


_AUDITOR = _directory(os.path.dirname(os.path.abspath(__file__)))
_STDLIB = _directory(os.__file__)
_IMPORTING = "<frozen importlib"
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
#: Code that a library writes into a temporary directory, under a name that is new in every run.
_GENERATED = (f"{os.sep}torchinductor_", f"{os.sep}torch_geometric.")
_verdicts: dict[str, bool] = {}


def is_user_code(filename: str) -> bool:
    """Whether a file is the user's own: not the standard library, an installed package, or the auditor.

    The package of a script that is itself installed (`-m pkg.train`) counts as the user's.
    """
    verdict = _verdicts.get(filename)
    if verdict is None:
        verdict = _verdicts[filename] = _judge(filename)
    return verdict


def _judge(filename: str) -> bool:
    if filename.startswith(("<frozen", "<string>", "<__array_function__ internals>", "<eval_with_key>")):
        # <string> is what namedtuple, dataclasses and attrs compile their methods under, <eval_with_key> what torch.fx makes of a graph
        return False
    path = os.path.abspath(filename) if filename[:1] != "<" else filename
    if path.startswith(_AUDITOR):
        return False
    for name in ("torch", "numpy"):
        module = sys.modules.get(name)
        where = _directory(getattr(module, "__file__", None))
        if where and path.startswith(where):
            return False
    compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if any(part in path for part in _GENERATED) or (compiled and path.startswith(os.path.join(os.path.abspath(compiled), ""))):
        return False
    main = _directory(getattr(sys.modules.get("__main__"), "__file__", None))
    installed = path.startswith(_STDLIB) or any(part in path for part in _PACKAGES)
    if not installed:
        return True
    return bool(main) and main != _STDLIB and any(part in main for part in _PACKAGES) and path.startswith(main)
