"""Clocks, power, temperature and throttling while a benchmark runs, from what the device offers.

GPUs through NVML, Jetsons through their INA3221 monitors (the numbers that tegrastats prints), CPUs
through cpufreq, RAPL and the thermal zones. What is not there or may not be read is left out.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import numpy as np

INTERVAL_S = 0.5

Reading = Dict[str, float]
"""One sample: gauges (``..._mhz``, ``..._c``, ``..._w``, ``..._mb``) and counters (``..._joules``,
``..._throttled``), whose growth is what counts."""

COUNTERS = ("_joules", "_throttled")

WRAP_SUFFIX = "max_energy_range_uj"


class Sensors:
    """All sensors of this machine. ``root`` is where /sys lies, for tests."""

    def __init__(self, root: Path = Path("/")):
        self._parts: List[Callable[[], Reading]] = []
        for part in (_processor(root), _zones(root), _rapl(root), _jetson(root), _nvml()):
            if part is not None:
                self._parts.append(part)

    def read(self) -> Reading:
        """One sample of everything."""
        found: Reading = {}
        for part in self._parts:
            found.update(part())
        return found

    @contextlib.contextmanager
    def watch(self) -> Iterator[List[Reading]]:
        """Samples in the background every half second, and one at either end; the list is complete
        behind the block. A sample carries its time as ``s``."""
        samples = [self._stamped()]
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(INTERVAL_S):
                samples.append(self._stamped())

        thread = threading.Thread(target=sample, name="sensors", daemon=True)
        thread.start()
        try:
            yield samples
        finally:
            stop.set()
            thread.join()
            samples.append(self._stamped())

    def _stamped(self) -> Reading:
        return {"s": time.perf_counter(), **self.read()}


def summary(samples: List[Reading]) -> Dict[str, Any]:
    """Minimum, median and maximum of each gauge, growth of each counter."""
    result: Dict[str, Any] = {}
    for name in sorted({key for sample in samples for key in sample} - {"s"}):
        values = [sample[name] for sample in samples if name in sample]
        if name.endswith(COUNTERS):
            result[name] = values[-1] - values[0]
        else:
            low, middle, high = np.quantile(values, (0, 0.5, 1))
            result[name] = {"min": float(low), "median": float(middle), "max": float(high)}
    return result


def throttled(found: Dict[str, Any]) -> Optional[bool]:
    """Whether a summary shows throttling; None where no sensor would tell."""
    counts = [value for name, value in found.items() if name.endswith("_throttled")]
    return any(count > 0 for count in counts) if counts else None


def joules(samples: List[Reading]) -> Optional[Dict[str, Any]]:
    """Energy between the first and the last sample, and by which sensor; None without one.

    A counter is taken as it is; power (Jetson) is integrated over the samples (trapezoid).
    """
    for name, what in (("gpu_joules", "GPU, NVML counter"), ("package_joules", "CPU, RAPL")):
        if name in samples[0]:
            return {"joules": samples[-1][name] - samples[0][name], "sensor": what}
    for name, what in (("board_w", "board, INA3221, integrated"), ("gpu_w", "GPU, NVML power, integrated")):
        if name in samples[0]:
            seconds = np.array([sample["s"] for sample in samples])
            watts = np.array([sample[name] for sample in samples])
            energy = float(np.sum(np.diff(seconds) * (watts[1:] + watts[:-1]) / 2))
            return {"joules": energy, "sensor": what}
    return None


def _number(path: Path) -> Optional[float]:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _processor(root: Path) -> Optional[Callable[[], Reading]]:
    """Mean clock of the CPUs and how often their cores have throttled."""
    folder = root / "sys/devices/system/cpu"
    clocks = sorted(folder.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    counts = sorted(folder.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    if not clocks and not counts:
        return None

    def read() -> Reading:
        found: Reading = {}
        khz = [n for n in map(_number, clocks) if n is not None]
        events = [n for n in map(_number, counts) if n is not None]
        if khz:
            found["cpu_mhz"] = sum(khz) / len(khz) / 1e3
        if events:
            found["cpu_throttled"] = sum(events)
        return found

    return read


def _zones(root: Path) -> Optional[Callable[[], Reading]]:
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    if not zones:
        return None

    def read() -> Reading:
        degrees = [n / 1e3 for n in map(_number, zones) if n is not None]
        return {"hottest_zone_c": max(degrees)} if degrees else {}

    return read


def _rapl(root: Path) -> Optional[Callable[[], Reading]]:
    """Energy of all packages; its counters wrap around, so that growth is added up."""
    packages = [
        path for path in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*/energy_uj"))
        if path.parent.name.count(":") == 1 and _number(path) is not None
    ]
    if not packages:
        return None
    last: Dict[Path, float] = {}
    total = [0.0]

    def read() -> Reading:
        for path in packages:
            now = _number(path)
            if now is None:
                continue
            step = now - last.get(path, now)
            if step < 0:
                step += _number(path.with_name(WRAP_SUFFIX)) or 0.0
            total[0] += step / 1e6
            last[path] = now
        return {"package_joules": total[0]}

    return read


def _jetson(root: Path) -> Optional[Callable[[], Reading]]:
    """Power of the whole board: the INA3221 channel named VDD_IN (Orin) or POM_5V_IN (Nano, TX2)."""
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in*_label")):
        if label.read_text().strip() in ("VDD_IN", "POM_5V_IN", "SYS_VIN"):
            volts = label.with_name(label.name.replace("_label", "_input"))
            amperes = volts.with_name(volts.name.replace("in", "curr", 1))

            def read(volts: Path = volts, amperes: Path = amperes) -> Reading:
                mv, ma = _number(volts), _number(amperes)
                return {} if mv is None or ma is None else {"board_w": mv * ma / 1e6}

            return read
    return None


def _nvml() -> Optional[Callable[[], Reading]]:
    """The first GPU through NVIDIA's management library; Jetsons before Thor have none."""
    try:
        import pynvml

        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # not installed, no driver, no GPU: all the same here
        return None
    heat = (
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
        | pynvml.nvmlClocksThrottleReasonSwPowerCap
        | pynvml.nvmlClocksThrottleReasonHwSlowdown
    )
    seen = [0.0]

    def slowed() -> float:
        seen[0] += bool(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) & heat)
        return seen[0]

    quantities: Dict[str, Callable[[], float]] = {
        "gpu_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        "gpu_memory_mhz": lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
        "gpu_c": lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
        "gpu_w": lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
        "gpu_joules": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
        "gpu_used_mb": lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 1e6,
        "gpu_throttled": slowed,
    }

    def read() -> Reading:
        found: Reading = {}
        for name, quantity in quantities.items():
            with contextlib.suppress(pynvml.NVMLError):  # this GPU does not tell
                found[name] = float(quantity())
        return found

    return read
