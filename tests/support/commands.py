"""Our commands, called in this process."""

import importlib

from click.testing import CliRunner

OPTIONS = [
    "--size", "64x96", "--steps", "6", "--batch", "4", "--workers", "2", "--cross-fit", "0",
]


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


def of_runtime(name, *arguments):
    """The result of one of the runtime's commands."""
    main = importlib.import_module(f"ssn_edge.commands.{name}").main
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert "Traceback" not in result.output
    return result


def ssn_run(*arguments):
    return of_runtime("ssn_run", *arguments)


def fails(*arguments, name="ssn_run"):
    """Exit code 2 and one line."""
    result = of_runtime(name, *arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    return line
