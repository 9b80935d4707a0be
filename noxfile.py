"""What .github/workflows runs, in environments of its own: ``nox -l`` lists it, ``nox -s lint`` runs one."""

import nox

nox.options.sessions = ["lint", "types", "runtime", "docs", "dist"]
nox.options.default_venv_backend = "venv"

TORCH_FREE = (
    "tests/ssn_edge", "tests/ssn_bench", "tests/ssn_export/bundles", "tests/ssn_export/tensorrt",
    "tests/ssn_export/work", "tests/test_rooms.py",
)
HEAVY = ("tests/ssn_edge/c", "tests/ssn_edge/model/test_kill.py")


@nox.session
def lint(session):
    """ruff."""
    session.install("ruff")
    session.run("ruff", "check", ".")


@nox.session
def types(session):
    """mypy, with everything that the code imports."""
    session.install("--editable", ".[all,dev]")
    session.run("mypy", "--strict", "ssn_edge")
    session.run("mypy", "train/ssn_train", "export/ssn_export", "benchmarks/ssn_bench")


@nox.session(python=["3.10", "3.12", "3.13"])
def runtime(session):
    """The tests of what runs without torch, as an installed package."""
    session.install(".[bench,openvino,test]")
    session.run("python", "-m", "pytest", *TORCH_FREE, *(f"--ignore={path}" for path in HEAVY))


@nox.session(python="3.11")
def full(session):
    """All tests, with torch: several GB."""
    session.install("--editable", ".[all,dev]")
    session.run("python", "-m", "pytest")


@nox.session
def docs(session):
    """The site, strictly: a broken link fails."""
    session.install("--requirement", "docs/requirements.txt")
    # Not --quiet: it would count no warnings.
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def dist(session):
    """sdist, and from it the wheel."""
    session.install("build", "twine")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    session.run("twine", "check", "--strict", *(str(path) for path in sorted(_built("dist"))))


def _built(folder):
    from pathlib import Path

    return [path for path in Path(folder).iterdir() if path.suffix in (".gz", ".whl")]
