"""Tensors that have names: parameters and other leaves, with their gradients behind each backward pass, and the buffers of modules.

Keeps no tensor alive, and dispatches no op that the script's modes or autograd see.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

from auditor.record import digest
from auditor.record.probes.named_values.common import Common, Known
from auditor.record.probes.named_values.objects import Owner, fields_of, is_users
from auditor.record.probes.named_values.reading import MISSING, WHOLE, Tensors, array, attribute_of, of_complex, of_float, of_int
from auditor.record.probes.named_values.source import Target
from auditor.record.probes.named_values.writer import Sink, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

#: What a value is that is read as no number: nothing to record, a list or dict, a module, an object of the user's, a named tuple.
NOTHING, ENTRIES, MODULE, OBJECT, FIELDS = range(5)


class Registry(Writer):
    """The named tensors that one thread reads, and how it reads values of each type."""

    def __init__(self, common: Common, sink: Callable[[], Sink]) -> None:
        super().__init__(common, sink)
        self._readers: dict[type, Any] = {
            float: of_float, int: of_int, complex: of_complex,
            bool: NOTHING, str: NOTHING, type(None): NOTHING, list: ENTRIES, tuple: ENTRIES, dict: ENTRIES,
        }  # fmt: skip

    def _known(self, tensor: Any) -> Known | None:
        known = self.common.leaves.get(id(tensor))
        return known if known is not None and known.reference() is tensor else None

    def _register(self, tensor: Any, text: str, kind: str, target: Target, owner: Owner | None = None) -> Known:
        common, key = self.common, id(tensor)
        leaves = common.leaves

        def gone(reference: Any) -> None:
            if key in leaves and leaves[key].reference is reference:
                del leaves[key]
                common.aliases.pop(key, None)

        known = leaves[key] = Known(weakref.ref(tensor, gone), text, kind, target, owner)
        before = common.named.get((target.scope, text, owner))
        has = leaves.get(before) if before is not None and before != key else None
        if before is not None and has is not None and (has.target.scope, has.text, has.owner) == (target.scope, text, owner):
            old = leaves.pop(before, None)  # the name has another tensor now
            alias = common.aliases.pop(before, None)
            lives = old.reference() if old is not None else None
            if lives is not None and old is not None and alias is not None:
                common.passed_on.add((target.scope, text))
                self._registered_anew(lives, alias[0], old.kind, *alias[1:])
        common.named[target.scope, text, owner] = key
        return known

    def _registered_anew(self, tensor: Any, text: str, kind: str, target: Target, owner: Owner | None) -> None:
        """Name a leaf by where it lies, since its name goes from one to the next; record it."""
        known = self._register(tensor, text, kind, target, owner)
        reader = self._reader(type(tensor))
        if callable(reader):
            self._write(known, reader(tensor), tensor, target.line)

    def _register_buffer(self, module: Any, key: tuple[int, str], text: str, target: Target) -> Known:
        buffers = self.common.buffers

        def gone(reference: Any) -> None:
            if key in buffers and buffers[key].reference is reference:
                self.common.of_buffers.pop(buffers.pop(key).at, None)

        known = buffers[key] = Known(weakref.ref(module, gone), text, "parameter", target)
        return known

    def _buffer(self, key: tuple[int, str], known: Known, buffer: Any, line: int, largest: int = WHOLE) -> None:
        """Record a buffer of numbers, which has this key in `Common.buffers`, if it is new or has changed."""
        reader = self._reader(type(buffer))
        read = reader(buffer) if callable(reader) else None
        if read is None or read[1] == "|b1" or read[4] > largest:
            return
        if known.at != id(buffer):  # it is new, or another now: `.to` makes one
            of_buffers = self.common.of_buffers
            of_buffers.pop(known.at, None)
            known.at = id(buffer)
            of_buffers[known.at] = key
        seen = digest.of_bytes(read[5]) if read[5] is not None else 0
        if seen != known.seen or not seen:
            known.seen = seen
            self._write(known, read, buffer, line)

    def _buffers(self, line: int) -> None:
        """Record the buffers that have changed."""
        for key, known in list(self.common.buffers.items()):
            buffer = attribute_of(known.reference(), key[1])
            if buffer is not MISSING:
                self._buffer(key, known, buffer, line)

    def _write(self, known: Known, read: Any, value: Any, line: int) -> None:
        """Record a value of what has a name."""
        self.write(known.target, known.text, known.kind, read, value, line, known.owner)

    @digest.unseen
    def gradients(self) -> None:
        """Record the gradients of all leaves that have a name."""
        self.common.due = False
        line = self.common.due_line
        for known in list(self.common.leaves.values()):
            tensor = known.reference()
            if tensor is None:
                continue
            gradient = tensor.grad
            reader = self._reader(type(gradient))
            if callable(reader):
                self.write(known.target, f"{known.text}.grad", "gradient", reader(gradient), gradient, line, known.owner)
        self._buffers(line)

    def stepped(self, optimizer: Any, line: int) -> None:
        """Record what an optimizer has updated."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                known = self._known(parameter)
                reader = self._reader(type(parameter)) if known is not None else None
                if known is not None and callable(reader):
                    self._write(known, reader(parameter), parameter, line)
        with digest.Unseen():
            self._buffers(line)

    def _reader(self, kind: type) -> Any:
        """What reads values of a type, or what else they are; asked once a type."""
        found = self._readers.get(kind)
        if found is None:
            found = self._readers[kind] = self._learned(kind)
        return found

    def _learned(self, kind: type) -> Any:
        np, torch = sys.modules.get("numpy"), sys.modules.get("torch")
        if np is not None and hasattr(np, "ndarray") and hasattr(np, "generic"):
            if kind in (np.ndarray, getattr(np, "memmap", None), getattr(np, "matrix", None)):
                return lambda value: array(np, value)
            if issubclass(kind, np.number):
                return lambda value: array(np, np.asarray(value))
        if torch is not None and hasattr(torch, "Tensor") and hasattr(torch, "nn"):
            if kind in (torch.Tensor, getattr(torch.nn, "Parameter", None), getattr(torch.nn, "Buffer", None)):
                if self._tensors is None:
                    self._tensors = Tensors(torch, self.common.lose)
                return self._tensors
            if issubclass(kind, torch.nn.Module):
                return MODULE
        if issubclass(kind, (dict, list, tuple)) and kind.__module__ in ("builtins", "collections"):
            return ENTRIES
        if not is_users(kind):
            return NOTHING
        return OBJECT if not issubclass(kind, tuple) else FIELDS if fields_of(kind) else NOTHING
