"""Where an update happens: the stack, and the loops around it, from the bytecode of its frames. See `trace/turns.py`."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType
from typing import NamedTuple

from auditor.record.callsite import is_ours
from auditor.trace.turns import Place

#: Frames of a stack that are looked at, the outermost.
_DEEPEST = 400
#: Places that are told apart; a recursion can have any number.
_MOST = 10_000
_OURS = -1


class Places:
    """Numbers for the places of one lane; `define` writes a new one down and returns its number."""

    def __init__(self, define: Callable[[str, dict[str, object]], int]) -> None:
        self._define = define
        self._known: dict[tuple[tuple[int, int], ...], tuple[int, Place]] = {}
        self._codes: dict[int, tuple[CodeType, int]] = {}  # with the code object, whose id would be given to another otherwise
        self._shapes: dict[int, _Shape] = {}

    def of(self, frame: FrameType | None) -> tuple[int, Place]:
        """Number and place of what a frame does now."""
        stack = []
        while frame is not None:
            code = frame.f_code
            entry = self._codes.get(id(code))
            if entry is None:
                entry = self._codes[id(code)] = code, _OURS if is_ours(code.co_filename) else len(self._codes)
            if entry[1] != _OURS:
                stack.append((entry[1], frame.f_lasti))
            frame = frame.f_back
        stack.reverse()
        frames = tuple(stack[:_DEEPEST])
        found = self._known.get(frames)
        if found is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[frames] = self._new(frames)
        return found

    def _new(self, frames: tuple[tuple[int, int], ...]) -> tuple[int, Place]:
        codes = {number: code for code, number in self._codes.values()}
        exact, loops, lines = [], [], []
        for index, (number, at) in enumerate(frames):
            code = codes[number]
            shape = self._shapes.get(number)
            if shape is None:
                shape = self._shapes[number] = _shape_of(code)
            # a call leaves the frame at its instruction or at what is cached behind it, as the interpreter has specialised it
            exact.append((number, max((offset for offset in shape.offsets if offset <= at), default=at)))
            for first, last in shape.loops:
                if first <= at <= last:
                    loops.append((index, first))
                    lines.append((code.co_filename, getattr(code, "co_qualname", code.co_name), *_lines(code, first, last)))
        place = Place(tuple(exact), tuple(loops))
        return self._define("place", {"frames": exact, "loops": loops, "lines": lines}), place


class _Shape(NamedTuple):
    """Where the instructions of a code object begin, and the first and last offset of each loop, outer ones before those within them."""

    offsets: list[int]
    loops: list[tuple[int, int]]


def _shape_of(code: CodeType) -> _Shape:
    import dis  # torch has imported it

    found: dict[int, int] = {}
    instructions = list(dis.get_instructions(code))
    for instruction in instructions:
        # the jump back that awaits a coroutine or delegates to a generator is no turn of a loop of the user's
        if "JUMP" in instruction.opname and instruction.opname != "JUMP_BACKWARD_NO_INTERRUPT" and instruction.argval <= instruction.offset:
            found[instruction.argval] = max(instruction.offset, found.get(instruction.argval, 0))
    return _Shape([one.offset for one in instructions], sorted(found.items(), key=lambda loop: (loop[0], -loop[1])))


def _lines(code: CodeType, first: int, last: int) -> tuple[int, int]:
    """The first and the last source line of a loop."""
    lines = [line for start, end, line in code.co_lines() if line and start <= last and end > first]
    return min(lines, default=0), max(lines, default=0)
