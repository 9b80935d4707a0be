"""Every kind of graph that ssn-export writes, built by NVIDIA's parser and compiler. No GPU."""

import onnx
import pytest
import rtx_graphs as graphs
from onnx import helper

from ssn_edge.errors import ModelError
from ssn_export.gates import lint
from ssn_export.tensorrt import compiled

CARDS = ("8.6", "8.9", "12.0")


CASES = sorted(  # by what is traced once for several
    [*graphs.pairwise(), *graphs.others()],
    key=lambda case: (case.backbone, case.design, case.plan, case.frame, case.name),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_taken(case):
    """For Ampere, Ada and Blackwell cards in one engine, without a warning."""
    model = case.graph()
    lint.check(model)
    found = compiled.compiled(model.SerializeToString(), case.name, CARDS, case.batch)
    assert found.warnings == () and found.size > 1e6
    assert "Name: " in found.kernels and found.capabilities == CARDS


def test_pairs_are_covered():
    """Counted anew: each value of a setting meets each of another one."""
    cases = graphs.pairwise()
    for one in ("plan", "precision", "frame", "verdict", "batch"):
        for other in ("plan", "precision", "frame", "verdict", "batch"):
            if one != other:
                met = {(getattr(case, one), getattr(case, other)) for case in cases}
                wanted = {(getattr(case, one), getattr(case, other)) for case in graphs.everything()}
                assert met == wanted, (one, other)


def test_a_graph_that_it_does_not_take_is_refused_in_its_words():
    model = graphs.Case("full", "float32", False, False, 1, "resnet18").graph()
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    node = next(node for node in broken.graph.node if node.op_type == "LeakyRelu")
    node.op_type, node.domain = "NoSuchThing", "nobody.knows"
    broken.opset_import.append(helper.make_opsetid("nobody.knows", 1))
    with pytest.raises(ModelError) as found:
        compiled.judged(broken, "float32", lambda line: None)
    assert node.name in str(found.value) and "NoSuchThing" in str(found.value)
    assert "TensorRT for RTX" in str(found.value) and str(found.value).endswith("; nothing was written")
