"""The words for streams, settings and files that differ before a divergence."""

from __future__ import annotations

from auditor.results import FileDifference, Stream

_OF_FILES = {"other-content": "other content", "other-names": "other names in it", "other-order": "listed in another order, or other names"}


def of_stream(stream: Stream) -> str:
    """What was done to a stream, and by which function."""
    return f"{stream.how} by {stream.function}" if stream.function else stream.how


def of_file(file: FileDifference) -> str:
    """What is not the same of a file or a folder."""
    alone = "listed by one run only" if file.op == "list" else "read by one run only"
    return _OF_FILES.get(file.what, alone)
