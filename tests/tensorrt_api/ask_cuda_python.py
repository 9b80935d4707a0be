"""Prints as JSON what the importable cuda-bindings are: names of the driver with docstrings, and what they do
over ``driver_stub.c``, whose library is the argument."""

import ctypes
import json
import sys
import threading

sys.modules["pycuda"] = None  # wherever it is installed
stub = ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)

import cuda.bindings  # noqa: E402
from cuda.bindings import driver  # noqa: E402


def others_run_meanwhile():
    """Whether another thread gets its turn while the driver waits: only such a thread ends the wait."""

    def end():
        stub.wait_until_entered()
        stub.let_go()

    thread = threading.Thread(target=end)
    thread.start()
    (result,) = driver.cuEventSynchronize(driver.CUevent(1))
    thread.join()
    return result == driver.CUresult.CUDA_SUCCESS


def opened():
    """What our module says of this driver."""
    from ssn_edge.backends import gpu

    try:
        gpu.open_device()
    except gpu.BackendError as error:
        return str(error)
    return "opened"


api = {"": {name: getattr(driver, name).__doc__ or "" for name in dir(driver)}}
for kind in ("CUresult", "CUdevice_attribute", "CUstream_flags", "CUevent_flags"):
    api[kind] = {name: "" for name in dir(getattr(driver, kind))}
print(json.dumps({
    "version": cuda.bindings.__version__, "api": api,
    "others_run": others_run_meanwhile(), "opened": opened(),
}))
