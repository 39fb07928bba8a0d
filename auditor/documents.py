"""Reads YAML of anybody's as a tree that takes no longer to go through than its text: aliases can make a few lines a terabyte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from auditor.trace.files import read

#: Bytes of a file, and mappings and lists within each other.
_LARGEST, _DEEPEST = 1 << 18, 40


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _refused("it is nested too deeply", self.peek_event().start_mark)  # type: ignore[no-untyped-call]  # of PyYAML
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _refused(why: str, at: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, why, at)


def _size(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many nodes there are and how deep they lie, with each alias written out; each node is looked at once."""
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _refused("an alias (*name) contains itself", node.start_mark)
        return known[id(node)]
    known[id(node)] = (0, 0)
    parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
    sizes = [_size(part, known) if isinstance(part, yaml.CollectionNode) else (1, 1) for part in parts]
    nodes, depth = 1 + sum(n for n, _ in sizes), 1 + max((d for _, d in sizes), default=0)
    if depth > _DEEPEST:
        raise _refused("it is nested too deeply", node.start_mark)
    known[id(node)] = nodes, depth
    return nodes, depth


def tree_of(file: Path) -> yaml.Node | None:
    """The tree of a file. Raises OSError, UnicodeDecodeError and yaml.YAMLError."""
    text = read(file.resolve(), _LARGEST).decode("utf-8")
    loader = _Loader(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
    except RecursionError:  # the parser calls itself, too
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()
    if isinstance(root, yaml.CollectionNode) and _size(root, {})[0] > len(text):
        raise _refused("its aliases (*name) expand to more nodes than the file has characters: write them out", root.start_mark)
    return root
