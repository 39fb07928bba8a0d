"""Reads untrusted YAML into a tree whose traversal takes no longer than its text: a few lines of aliases can expand to a terabyte."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from auditor.trace.files import read

#: Largest file in bytes, and deepest nesting of mappings and lists.
_MAX_BYTES, _MAX_DEPTH = 1 << 18, 40


class _Bounded:
    """Composes nested nodes up to a depth limit."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _refused("it is nested too deeply", self.peek_event().start_mark)  # type: ignore[attr-defined]  # of the loader
        try:
            return super().compose_node(parent, index)  # type: ignore[misc]
        finally:
            self.depth -= 1


class _Loader(_Bounded, yaml.SafeLoader):
    """Gives the best error messages."""


if yaml.__with_libyaml__:

    class _FastLoader(_Bounded, yaml.composer.Composer, yaml.CSafeLoader):
        """Seven times as fast: libyaml scans and parses, and only the nodes are made in Python. Every audit reads the shipped rules."""

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            yaml.composer.Composer.__init__(self)


def _refused(why: str, at: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, why, at)


def _size(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Number and depth of the nodes with aliases expanded; each node is visited once."""
    if id(node) in known:
        if known[id(node)] == (0, 0):
            raise _refused("an alias (*name) contains itself", node.start_mark)
        return known[id(node)]
    known[id(node)] = (0, 0)
    parts = node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
    sizes = [_size(part, known) if isinstance(part, yaml.CollectionNode) else (1, 1) for part in parts]
    nodes, depth = 1 + sum(n for n, _ in sizes), 1 + max((d for _, d in sizes), default=0)
    if depth > _MAX_DEPTH:
        raise _refused("it is nested too deeply", node.start_mark)
    known[id(node)] = nodes, depth
    return nodes, depth


def tree_of(file: Path) -> yaml.Node | None:
    """The tree of a file. Raises OSError, UnicodeDecodeError and yaml.YAMLError."""
    text = read(file.resolve(), _MAX_BYTES).decode("utf-8")
    root = _root_of(text)
    if isinstance(root, yaml.CollectionNode) and _size(root, {})[0] > len(text):
        raise _refused("its aliases (*name) expand to more nodes than the file has characters; write them out", root.start_mark)
    return root


def _root_of(text: str) -> yaml.Node | None:
    if yaml.__with_libyaml__:
        with suppress(yaml.YAMLError):
            return _composed(_FastLoader(text))
    return _composed(_Loader(text))


def _composed(loader: Any) -> yaml.Node | None:
    try:
        root: yaml.Node | None = loader.get_single_node()
    except RecursionError:  # the parser recurses too
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()
    return root
