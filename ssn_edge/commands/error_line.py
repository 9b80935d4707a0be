"""How every command of ssn-edge reports an expected error: one line, exit code 2."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, Callable, TypeVar

import click
import cv2

from ssn_edge.errors import SsnEdgeError

Command = TypeVar("Command", bound=Callable[..., Any])


def one_line_errors(command: Command) -> Command:
    """Report expected errors as one line on stderr with exit code 2, never as a traceback."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        quiet_opencv()
        try:
            return command(*args, **kwargs)
        except SsnEdgeError as error:
            message = " ".join(str(error).split())
        except OSError as error:
            message = f"{error.filename or 'file'}: {error.strerror or error}"
        except MemoryError:
            message = "out of memory; try a smaller --batch or --size"
        click.echo(f"error: {message}", err=True)
        sys.exit(2)

    return wrapped  # type: ignore[return-value]


def quiet_opencv() -> None:
    """OpenCV's own warnings would double our one line."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's, of which one bad frame writes hundreds
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    if log is not None:
        log.setLogLevel(log.LOG_LEVEL_SILENT)
