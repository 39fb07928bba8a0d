"""Reads YAML of anybody's as a tree: no aliases, which can make a few lines a terabyte, and no bottomless nests."""

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
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # of PyYAML
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read here: write it out", event.start_mark)
        self.depth += 1
        if self.depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", self.peek_event().start_mark)  # type: ignore[no-untyped-call]  # likewise
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def tree_of(file: Path) -> yaml.Node | None:
    """The tree of a file. Raises OSError, UnicodeDecodeError and yaml.YAMLError."""
    text = read(file.resolve(), _LARGEST).decode("utf-8")
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except RecursionError:  # the parser calls itself, too
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()
