"""Every TensorRT name in our source, looked up in the real bindings of every release.

The bindings are NVIDIA's; only the libraries under them are empty. A name that not all releases have
must stand behind ``hasattr``, and some release must have it: a misspelt call fails here.
"""

import ast
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import recording_rtx
from releases import PACKAGES, bindings

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCES = [
    ROOT / "ssn_edge" / "backends" / "nvidia.py",
    ROOT / "ssn_edge" / "backends" / "engine_session.py",
    ROOT / "ssn_edge" / "backends" / "tensorrt_backend.py",
    ROOT / "export" / "ssn_export" / "tensorrt" / "builder.py",
]
RTX_SOURCE = ROOT / "ssn_edge" / "backends" / "rtx_backend.py"
"""What TensorRT for RTX alone has."""
MODULE = ""  # the class of tensorrt itself

# 8.5 has no wheel: 8.6 without what its release notes say was added since.
ADDED_IN_8_6 = {
    ("IBuilderConfig", "builder_optimization_level"),
    ("IBuilderConfig", "hardware_compatibility_level"),
    ("IBuilderConfig", "max_aux_streams"),
    ("BuilderFlag", "VERSION_COMPATIBLE"),
    ("MemoryPoolType", "TACTIC_DRAM"),
    ("Runtime", "engine_host_code_allowed"),
    (MODULE, "HardwareCompatibilityLevel"),
}


LIBRARIES = {
    "TensorRT": ("nvinfer", "nvonnxparser", "nvinfer_plugin", "nvparsers"),
    "RTX": ("tensorrt_rtx", "tensorrt_onnxparser_rtx"),
}


@pytest.fixture(scope="session")
def apis(cache, tmp_path_factory):
    """{release: {class: {member: {doc, method}}}}."""
    compiler = shutil.which("cc") or shutil.which("gcc") or pytest.skip("no C compiler")
    found = {}
    for release in PACKAGES:
        folder = bindings(cache, release)
        stubs = tmp_path_factory.mktemp(f"stubs-{release}")
        number = release.rpartition(" ")[2]
        for name in LIBRARIES["RTX" if release.startswith("RTX") else "TensorRT"]:
            file = f"lib{name}.so.{number.split('.')[0]}"
            command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{file}", "-o", str(stubs / file)]
            subprocess.run([*command, str(HERE / "stubs.c")], check=True)
        done = subprocess.run(
            [sys.executable, str(HERE / "dump_api.py"), str(stubs)],
            env={"PYTHONPATH": str(folder), "PATH": ""}, capture_output=True, text=True,
        )
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["version"].startswith(number)
        found[release] = document["api"]
    older = json.loads(json.dumps(found["8.6.1"]))
    for kind, name in ADDED_IN_8_6:
        older[kind].pop(name, None)
    return {"8.5": older, **found}


class Uses(ast.NodeVisitor):
    """Names of tensorrt in one file: (class, member, line, guards, call or None), and complaints about
    variables whose class cannot be told. Classes come from annotations such as ``x: trt.Runtime``."""

    def __init__(self, source):
        self.uses, self.complaints, self.overrides = [], [], {}
        self.variables, self.attributes, self.guards = {}, {}, set()
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
                self.attributes[node.target.attr] = self.annotated(node.annotation)
        self.visit(tree)

    @staticmethod
    def annotated(annotation):
        found = re.search(r"\btrt\.([\w.]+)", ast.unparse(annotation)) if annotation else None
        return found and found.group(1)

    def kind(self, node):
        """The class of an expression: of an instance, or a class or module itself; None: not ours."""
        if isinstance(node, ast.Name):
            return MODULE if node.id == "trt" else self.variables.get(node.id)
        if isinstance(node, ast.Attribute):
            if node.attr == "trt":  # of a product: whose bindings they are is not this file's to know
                return MODULE
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return self.attributes.get(node.attr)
            owner = self.kind(node.value)
            if owner is not None and node.attr[0].isupper() and not node.attr.isupper():
                return f"{owner}.{node.attr}" if owner else node.attr
        return None

    def visit_FunctionDef(self, node):
        outer = dict(self.variables)
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            self.variables[argument.arg] = self.annotated(argument.annotation)
        self.block(node.body)
        self.variables = outer

    def visit_ClassDef(self, node):
        for base in node.bases:
            kind = self.kind(base)
            if kind:
                names = {x.name for x in node.body if isinstance(x, ast.FunctionDef)}
                self.overrides[kind] = (names, frozenset(self.guards))
        self.generic_visit(node)

    def block(self, statements):
        """``if not hasattr(...): raise`` guards what follows it in the block."""
        before = set(self.guards)
        for statement in statements:
            self.visit(statement)
            if isinstance(statement, ast.If) and isinstance(
                statement.body[-1], (ast.Raise, ast.Return, ast.Continue)
            ):
                test = statement.test
                if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                    self.guards |= self.asked(test.operand)
        self.guards = before

    def asked(self, test):
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            return set().union(*(self.asked(value) for value in test.values))
        called = isinstance(test, ast.Call) and isinstance(test.func, ast.Name)
        if called and test.func.id == "hasattr" and self.kind(test.args[0]) is not None:
            return {(self.kind(test.args[0]), test.args[1].value)}
        return set()

    def visit_If(self, node):
        self.visit(node.test)
        before = set(self.guards)
        self.guards |= self.asked(node.test)
        self.block(node.body)
        self.guards = before
        self.block(node.orelse)

    def visit_With(self, node):
        for item in node.items:
            self.visit(item.context_expr)
        self.block(node.body)

    def visit_For(self, node):
        self.visit(node.iter)
        self.block(node.body)

    def visit_AnnAssign(self, node):
        if isinstance(node.target, ast.Name):
            self.variables[node.target.id] = self.annotated(node.annotation)
        self.visit(node.target)
        if node.value:
            self.visit(node.value)

    def visit_Assign(self, node):
        value = node.value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            owner = self.kind(value.func.value)
            if owner is not None:
                self.complaints.append((owner, value.func.attr, node.lineno))
        self.generic_visit(node)

    def visit_Call(self, node):
        if isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            kind = self.kind(node.args[0])
            if kind is not None:
                self.uses.append((kind, node.args[1].value, node.lineno,
                                  frozenset({(kind, node.args[1].value)} | self.guards), None))
        for child in ast.iter_child_nodes(node):
            if child is node.func and isinstance(child, ast.Attribute):
                self.attribute(child, node)
                self.visit(child.value)
            else:
                self.visit(child)

    def visit_Attribute(self, node):
        self.attribute(node, None)
        self.generic_visit(node)

    def attribute(self, node, call):
        owner = self.kind(node.value)
        if owner is not None and not node.attr.startswith("__"):
            self.uses.append((owner, node.attr, node.lineno, frozenset(self.guards), call))


def signatures(doc):
    """[(names, required)] of every overload in a docstring of the bindings, without ``self``."""
    found = []
    for line in doc.splitlines():
        start = re.match(r"\s*(?:\d+\. )?\w+\(self[^,)]*(?:, )?", line)
        if not start or "->" not in line:
            continue
        depth, parts, current = 0, [], ""
        for character in line[start.end() : line.rindex("->")].rstrip()[:-1]:
            depth += character in "([{<"
            depth -= character in ")]}>"
            if character == "," and not depth:
                parts.append(current)
                current = ""
            else:
                current += character
        parts = [part.strip() for part in [*parts, current] if part.strip()]
        names = [part.partition(":")[0] for part in parts]
        found.append((names, sum(" = " not in part for part in parts)))
    return found


def fits(call, doc):
    overloads = signatures(doc)
    if not overloads or any(isinstance(a, ast.Starred) for a in call.args):
        return True
    keywords = [k.arg for k in call.keywords]
    return any(
        set(keywords) <= set(names[len(call.args):])
        and required <= len(call.args) + len(keywords) <= len(names)
        for names, required in overloads
    )


def problems(source, apis):
    """What is wrong with one file's text, by release; and the names checked."""
    uses = Uses(source)
    found, names = [], set()
    for kind, name, line, guards, call in uses.uses:
        guarded = (kind, name) in guards or any(
            (MODULE, part) in guards for part in (kind.split(".")[0], name if kind == MODULE else "")
        )
        names.add((kind, name))
        having = [r for r, api in apis.items() if name in api.get(kind, {})]
        missing = [r for r in apis if r not in having]
        if not having or (missing and not guarded):
            found.append(f"line {line}: {kind or 'trt'}.{name} is not in {', '.join(missing)}")
        for release in having:
            entry = apis[release][kind][name]
            if call is not None and not fits(call, entry["doc"]):
                found.append(f"line {line}: {kind}.{name} is called otherwise in {release}")
    for owner, name, line in uses.complaints:
        docs = [api[owner][name]["doc"] for api in apis.values() if name in api.get(owner, {})]
        if not all(re.search(r"-> (str|int|bool|float|None)\b", doc) for doc in docs):
            found.append(f"line {line}: say of which class the result of {owner}.{name} is")
    for kind, (methods, guards) in uses.overrides.items():
        for release, api in apis.items():
            if kind not in api:
                assert (MODULE, kind) in guards, f"{kind} is not in {release}"
                continue
            asked = {n for n, m in api[kind].items() if m["method"] and not n.startswith("_")}
            for name in asked - methods:
                found.append(f"{kind}.{name} of {release} is not overridden")
            names |= {(kind, name) for name in asked}
    return found, names


def test_every_name_exists_in_every_release(apis, record_property):
    checked = set()
    for source in SOURCES:
        found, names = problems(source.read_text(), apis)
        assert not found, f"{source.name}: " + "; ".join(found)
        checked |= names
    record_property("names", len(checked))
    record_property("releases", len(apis))
    print(f"{len(checked)} names checked against {len(apis)} releases")
    assert len(checked) > 60 and len(apis) == len(PACKAGES) + 1


def of_rtx(apis):
    return {release: api for release, api in apis.items() if release.startswith("RTX")}


def test_what_rtx_alone_has_exists_in_its_releases(apis):
    found, names = problems(RTX_SOURCE.read_text(), of_rtx(apis))
    assert not found, "; ".join(found)
    assert {("IRuntimeCache", "deserialize"), ("IRuntimeConfig", "set_runtime_cache"),
            ("ICudaEngine", "create_runtime_config"), ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"),
            ("DynamicShapesKernelSpecializationStrategy", "EAGER")} <= names


@pytest.mark.parametrize(
    "change, expected",
    [
        (("cache.deserialize(stored)", "cache.deserialise(stored)"), "deserialise is not in RTX 1.4.0"),
        (("config.set_runtime_cache(cache)", "config.set_runtime_cache(cache, 1)"), "called otherwise"),
        (("WHOLE_GRAPH_CAPTURE", "WHOLE_GRAPH"), "CudaGraphStrategy.WHOLE_GRAPH is not in"),
        (("config.cuda_graph_strategy", "config.cuda_graphs"), "IRuntimeConfig.cuda_graphs is not in"),
    ],
)
def test_a_misspelt_call_of_rtx_is_found(apis, change, expected):
    before, after = change
    text = RTX_SOURCE.read_text()
    assert before in text
    found, _ = problems(text.replace(before, after), of_rtx(apis))
    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    "change, expected",
    [
        (("execute_async_v3", "execute_async_v4"), "execute_async_v4 is not in 8.5"),
        (("execute_async_v3", "execute_async_v2"), "execute_async_v2 is not in 10.0.1"),
        (("set_tensor_address(name, buffer.pointer)", "set_tensor_address(name)"), "called otherwise"),
        (("MemoryPoolType.WORKSPACE", "MemoryPoolType.WORKSPAEC"), "WORKSPAEC is not in 8.5"),
        (("trt.BuilderFlag.TF32", "trt.BuilderFlag.FP16"), "FP16 is not in 11"),
        (('hasattr(product.trt.MemoryPoolType, "TACTIC_DRAM")', "True"), "TACTIC_DRAM is not in 8.5"),
        (('"device_memory_size_v2"', '"device_memory_size_v3"'), "device_memory_size_v3 is not in"),
        (("phase_finish", "phase_end"), "phase_finish of 10.0.1 is not overridden"),
        (("cache.combine(other, False)", "cache.combine(other, overwrite=False)"), "called otherwise"),
        (("plan: trt.IHostMemory = builder", "plan = builder"), "say of which class"),
    ],
)
def test_a_misspelt_call_is_found(apis, change, expected):
    before, after = change
    sources = [source.read_text() for source in SOURCES]
    assert any(before in text for text in sources), before
    found = [p for text in sources for p in problems(text.replace(before, after), apis)[0]]
    assert any(expected in problem for problem in found), found


def test_the_recording_stand_in_has_the_real_signatures(apis):
    """tests/support/recording_rtx: each public method exists, and takes the arguments that it is given."""
    checked = 0
    for kind in recording_rtx.STOOD_IN:
        for name, method in vars(kind).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            ours = list(inspect.signature(method).parameters)[1:]
            for release, api in of_rtx(apis).items():
                assert name in api[kind.__name__], f"{kind.__name__}.{name} is not in {release}"
                overloads = signatures(api[kind.__name__][name]["doc"])
                assert any(ours == names for names, _ in overloads), (release, kind.__name__, name, overloads)
            checked += 1
    assert checked >= 14


def test_the_recording_stand_ins_words_are_real(apis):
    for kind in (
        recording_rtx.DataType, recording_rtx.CudaGraphStrategy, recording_rtx.EngineValidity,
        recording_rtx.DynamicShapesKernelSpecializationStrategy, recording_rtx.EngineInvalidityDiagnostics,
    ):
        for release, api in of_rtx(apis).items():
            missing = {one.name for one in kind} - set(api[kind.__name__])
            assert not missing, (release, kind.__name__, missing)
