"""Sensors on a made-up /sys, with the units the kernel documents."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssn_bench.measure import sensors


@pytest.fixture
def sys_tree(tmp_path):
    def write(name, value):
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
        return path

    write("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 2_000_000)  # kHz
    write("devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", 3_000_000)
    write("class/thermal/thermal_zone0/temp", 48_500)  # millidegrees
    write("class/thermal/thermal_zone1/temp", 61_000)
    return write


def find(tmp_path, monkeypatch):
    monkeypatch.setattr(sensors, "_nvml", lambda: None)
    return sensors.Sensors(tmp_path)


def test_clocks_and_temperature(sys_tree, tmp_path, monkeypatch):
    gauges = find(tmp_path, monkeypatch)
    assert gauges.read() == {"cpu_mhz": 2500, "hottest_zone_c": 61}
    with gauges.watch() as samples:
        pass
    found = sensors.summary(samples)
    assert found["cpu_mhz"] == {"min": 2500, "median": 2500, "max": 2500}
    assert sensors.throttled(found) is None and sensors.joules(samples) is None


def test_energy_counter_wraps(sys_tree, tmp_path, monkeypatch):
    sys_tree("class/powercap/intel-rapl:0/max_energy_range_uj", 10_000_000)
    sys_tree("class/powercap/intel-rapl:0:0/energy_uj", 5)  # a part of the package: not added
    counter = sys_tree("class/powercap/intel-rapl:0/energy_uj", 9_000_000)
    gauges = find(tmp_path, monkeypatch)
    with gauges.watch() as samples:
        counter.write_text("2000000\n")
    assert sensors.joules(samples) == {"joules": 3.0, "sensor": "CPU, RAPL"}


def test_jetson_power_is_integrated(sys_tree, tmp_path, monkeypatch):
    rail = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    sys_tree(f"{rail}/in2_label", "VDD_CPU_GPU_CV")
    sys_tree(f"{rail}/in1_label", "VDD_IN")
    sys_tree(f"{rail}/in1_input", 5_000)  # mV
    sys_tree(f"{rail}/curr1_input", 2_000)  # mA
    reading = find(tmp_path, monkeypatch).read()
    assert reading["board_w"] == 10
    samples = [{"s": s, "board_w": w} for s, w in ((0, 10), (1, 10), (3, 20))]
    assert sensors.joules(samples)["joules"] == pytest.approx(10 + 30)


def test_throttling_is_growth(sys_tree, tmp_path, monkeypatch):
    count = sys_tree("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", 7)
    with find(tmp_path, monkeypatch).watch() as samples:
        count.write_text("9\n")
    found = sensors.summary(samples)
    assert found["cpu_throttled"] == 2 and sensors.throttled(found)


def test_nothing_there(tmp_path, monkeypatch):
    gauges = find(tmp_path, monkeypatch)
    with gauges.watch() as samples:
        pass
    assert sensors.summary(samples) == {}


def test_nvml_through_its_real_bindings(tmp_path):
    """The bindings over a library of ours with known readings, in a process of its own."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    source = Path(__file__).with_name("nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True)
    code = (
        "import json; from ssn_bench.measure import sensors; gauges = sensors._nvml(); "
        "print(json.dumps([gauges(), gauges()]))"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert second["gpu_joules"] - first["gpu_joules"] == 1.5
    assert (first["gpu_mhz"], first["gpu_c"], first["gpu_w"]) == (1410, 61, 250.5)
    assert sensors.throttled(sensors.summary([first, second])) is True
    assert "gpu_used_mb" not in first  # what a GPU does not support is left out
