"""Prints the public API of the importable tensorrt as JSON: {class or "": {member: docstring}}."""

import ctypes
import json
import pathlib
import sys

for library in sorted(pathlib.Path(sys.argv[1]).glob("lib*.so.*")):
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)

import tensorrt  # noqa: E402

api = {"": {}}


def look(path, thing):
    api[path] = {}
    for name in dir(thing):
        member = getattr(thing, name, None)
        is_method = callable(member) and not isinstance(member, type)
        api[path][name] = {"doc": (member.__doc__ or "") if is_method else "", "method": is_method}
        if isinstance(member, type) and not name.startswith("_") and name[0].isupper():
            inner = f"{path}.{name}" if path else name
            if inner.count(".") < 2:
                look(inner, member)


look("", tensorrt)
print(json.dumps({"version": tensorrt.__version__, "api": api}))
