"""The examples in the docstrings run, and what is public has a docstring."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import ssn_edge

EXAMPLES = {
    "ssn_edge.detector", "ssn_edge.frames.formats", "ssn_edge.frames.pixels", "ssn_edge.frames.placement",
    "ssn_edge.line.stream",
    "ssn_edge.model.schema", "ssn_edge.part_names", "ssn_edge.sources.addresses", "ssn_edge.testing",
    "ssn_edge.testing.fake",
    "ssn_edge.testing.tiny",
    "ssn_edge.values", "ssn_edge.verdict.judge", "ssn_edge.verdict.promise",
}
"""Modules with examples; one that loses them, or gains some, is noticed."""


def modules():
    for found in pkgutil.walk_packages(ssn_edge.__path__, "ssn_edge."):
        try:
            yield importlib.import_module(found.name)
        except ImportError as error:  # tensorrt, pycuda, ...
            assert not (error.name or "ssn_edge").startswith("ssn_edge")


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed


def test_no_example_is_left_out():
    finder = doctest.DocTestFinder()
    found = {
        module.__name__ for module in modules()
        if any(test.examples for test in finder.find(module, globs={}))
    }
    assert found == EXAMPLES


def documented(node):
    return ast.get_docstring(node) is not None


def test_every_public_definition_is_documented():
    """Modules, classes, functions and methods without a leading underscore: all of them."""
    missing, count = [], 0
    for path in sorted(Path(ssn_edge.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        public = [(path.name, tree)] if path.name != "__main__.py" else []
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                public.append((node.name, node))
                public += [
                    (f"{node.name}.{method.name}", method) for method in getattr(node, "body", [])
                    if isinstance(node, ast.ClassDef) and isinstance(method, ast.FunctionDef)
                    and not method.name.startswith("_")
                ]
        count += len(public)
        missing += [f"{path}: {name}" for name, node in public if not documented(node)]
    assert not missing
    print(f"{count} definitions, all documented")


def test_what_is_exported_is_documented():
    for name in ssn_edge.__all__:
        assert inspect.getdoc(getattr(ssn_edge, name)), name
