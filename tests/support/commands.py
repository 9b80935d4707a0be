"""Our commands, called in this process."""

import importlib

from click.testing import CliRunner

OPTIONS = ["--size", "64x96", "--steps", "6", "--batch", "4", "--workers", "2"]


def call(command, *arguments):
    """(exit code, output) of one of our commands."""
    result = CliRunner().invoke(command, [str(word) for word in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def command(module, *arguments):
    """Run one of our commands; its output."""
    main = importlib.import_module(f"{module}.cli").main
    result = CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output
