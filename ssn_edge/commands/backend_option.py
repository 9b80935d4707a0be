"""``--backend`` and ``--threads``: what a model runs on, said the same way by every command."""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence, Tuple

import click

from ssn_edge.backends import BACKENDS, check_name
from ssn_edge.errors import BackendError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

threads = click.option("--threads", type=click.IntRange(min=1), metavar="N",
                       help="Of the CPU for a frame.  [default: the library's own number]")


def option(*names: str, help: str, others: Sequence[str] = ("auto",), **more: Any) -> Decorator:
    """A back end's name, one of ``others``, or ``onnxruntime:PROVIDER``; ``more`` as of click's."""

    def checked(_: click.Context, __: Optional[click.Parameter], given: Any) -> Any:
        values: Tuple[str, ...] = given if isinstance(given, tuple) else (given,)
        try:
            for value in values:
                check_name(value, others)
        except BackendError as error:
            raise click.BadParameter(str(error)) from None
        return given

    shown = f"[{'|'.join((*others, *BACKENDS))}|onnxruntime:PROVIDER]"
    return click.option(*(names or ("--backend",)), metavar=shown, callback=checked, help=help, **more)
