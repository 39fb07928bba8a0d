"""Errors as one sentence with a slug; each class knows the exit status of the command that ends with it."""

from __future__ import annotations


class AuditError(Exception):
    """An error that the user can act on: what was seen, where, and the next step, with a stable slug."""

    exit_status = 2

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} [{self.slug}]"


class UsageError(AuditError):
    """The command line, or a file that the user named, is not usable."""


class LaunchError(AuditError):
    """The script could not be started, or nothing of it was recorded."""


class TraceError(AuditError):
    """A run on disk cannot be read: of unknown format, of a newer version, truncated or deleted."""
