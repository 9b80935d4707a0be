"""NVIDIA's own parser and builder, TensorRT for RTX, which work without a GPU."""

import pytest


def release():
    """As (1, 7)."""
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    return tuple(int(part) for part in trt.__version__.split(".")[:2])


def refusal(model, target="SM86", most=3, build=True):
    """What parser or builder says against an ONNX model for batches of 1 to ``most`` on a GPU of the compute
    capability ``target``; None where it builds, or is parsed if no more is asked for. Skips where the
    library is absent."""
    trt = pytest.importorskip("tensorrt_rtx_bindings")

    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.errors = []

        def log(self, severity, message):
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model.SerializeToString()):
        error = parser.get_error(0)
        return f"parser, node {error.node_name()}: {error.desc()}"
    if not build:
        return None
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target), 0)
    profile = builder.create_optimization_profile()
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, (1, *shape[1:]), (most, *shape[1:]), (most, *shape[1:]))
    config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        return f"builder: {'; '.join(log.errors)}"
    return None
