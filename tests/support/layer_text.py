"""Made-up lists of kernels in the builder's own format."""


def line(name, kind, inputs=(), constants=(), outputs=(), nodes=()):
    """One kernel; tensors are (name, dimensions, type as NVIDIA writes it)."""
    parts = ", ".join(
        f"{part}: [{_tensors(tensors)}]"
        for part, tensors in (("Inputs", inputs), ("Constants", constants), ("Outputs", outputs))
    )
    metadata = "".join(f"[ONNX Layer: {node}]" for node in nodes)
    return f"Name: {name}, LayerType: {kind}, {parts}, TacticName: t, StreamId: 0, Metadata: {metadata}"


def builder_log(*lines):
    return "\n".join(["Layers:", *lines, "", "I/O Tensors:", " Name: image, IOMode: Input, DataType: UInt8"])


def _tensors(tensors):
    return ",".join(
        f" {{ Name: {name}, Dimensions: [{','.join(map(str, dims))}], Strides: [1], StrideOrder: [0], "
        f"Datatype: {kind}, Format: (Linear) Row major linear format }}"
        for name, dims, kind in tensors
    )
