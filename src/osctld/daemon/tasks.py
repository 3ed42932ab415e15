"""Background tasks."""

from __future__ import annotations

import asyncio
import logging

from osctld.core.errors import OsctlError

log = logging.getLogger("osctld")


def log_failure(task: asyncio.Task[None]) -> None:
    """When a background task is done, log why it failed, if it did."""
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        # In words for what may happen; with its traceback for what may not.
        log.error("%s: %s", task.get_name(), error, exc_info=None if isinstance(error, OsctlError) else error)
