"""``make rtx-matrix``: every graph by every release of TensorRT for RTX for every generation of cards.

Resumable: each cell is a line of ``cells.jsonl``, and those that are there are not built again. Graphs are
made once; each release builds in processes of its own, one cell after the other. The table is ``table.md``.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATHS = [ROOT, ROOT / "train", ROOT / "export", HERE, HERE.parent / "support"]
sys.path[:0] = map(str, PATHS)

TURING = "7.5"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="+", type=Path, help="folders with bindings and libraries")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(arguments.out, str(arguments.releases[0]))
    make_graphs(arguments.out)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda folder: run(folder, arguments.out), arguments.releases))
    table = written(read(arguments.out))
    (arguments.out / "table.md").write_text(table)
    print(table)
    return 0


def cases():
    import rtx_graphs as graphs

    first = [*graphs.others(), *graphs.pairwise()]  # so that a table that is not full has every pair
    return [*first, *(case for case in graphs.everything() if case not in first)]


def place(out, case):
    """One file serves both batches."""
    return out / "graphs" / f"{case.name.replace(f'-1..{case.batch}', '')}.onnx"


def make_graphs(out):
    import onnx

    (out / "graphs").mkdir(parents=True, exist_ok=True)
    for case in sorted(cases(), key=lambda case: (case.backbone, case.design, case.plan, case.frame)):
        if not place(out, case).is_file():
            print(f"making {place(out, case).name}", flush=True)
            temporary = place(out, case).with_suffix(".new")
            onnx.save(case.graph(), str(temporary))
            os.replace(temporary, place(out, case))


def run(folder, out):
    """Start workers until one has nothing left: a crash of the compiler is a cell, and not the end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *map(str, PATHS)])}
    command = [sys.executable, __file__, "--worker", "--out", str(out), str(folder)]
    while True:
        code = subprocess.run(command, env=environment, check=False).returncode
        if code not in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE, -signal.SIGBUS):
            break  # done, or an error of ours that another worker would meet too
        started = [cell for cell in read(out) if cell["outcome"] == "started"]
        for cell in started:
            if (folder / "ready").is_file() and cell["folder"] == str(folder):
                write(out, {**cell, "outcome": "crashed"})
        print(f"{folder}: the compiler crashed, another worker goes on", flush=True)
    if code:
        raise SystemExit(f"{folder}: a worker ended with code {code}")


def work(out, folder):
    """Build what is not there yet, in one process."""
    import onnx

    from ssn_edge import backends
    from ssn_edge.errors import SsnEdgeError
    from ssn_export.tensorrt import builder, compiled, turing

    product = backends.engine_library("rtx").PRODUCT
    done = {
        (cell["release"], cell["sm"], cell["case"]) for cell in read(out) if cell["outcome"] != "started"
    }
    left = [
        (sm, case) for case in cases() for sm in builder.targets(product)
        if (product.version(), sm, case.name) not in done
    ]
    for number, (sm, case) in enumerate(left):
        path, start = place(out, case), time.monotonic()
        cell = {"release": product.version(), "sm": sm, "case": case.name, "folder": folder}
        write(out, {**cell, "outcome": "started"})  # replaced by the next line, unless the process ends
        try:
            model = path
            if sm == TURING:
                model = turing.for_turing(onnx.load(str(path))).SerializeToString()
            found = compiled.compiled(model, path.name, (sm,), case.batch)
            cell.update(outcome="built", warnings=list(found.warnings), bytes=found.size)
        except SsnEdgeError as error:
            cell.update(outcome="refused", reason=str(error))
        write(out, {**cell, "seconds": round(time.monotonic() - start, 1)})
        print(f"{product.version()} {number + 1}/{len(left)} {sm} {case.name}: {cell['outcome']}", flush=True)
    return 0


def write(out, cell):
    with open(out / "cells.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(cell) + "\n")


def read(out):
    """The last line of each cell counts."""
    path = out / "cells.jsonl"
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        cell = json.loads(line)
        found[cell["release"], cell["sm"], cell["case"]] = cell
    return list(found.values())


def written(cells):
    """Releases down, compute capabilities across: built of tried; then what was refused or warned of."""
    counts, odd = defaultdict(Counter), []
    for cell in cells:
        counts[cell["release"], cell["sm"]][cell["outcome"]] += 1
        if cell["outcome"] != "built" or cell["warnings"]:
            odd.append(cell)
    sms = sorted({sm for _, sm in counts}, key=float)
    names = " | ".join(f"SM{sm.replace('.', '')}" for sm in sms)
    rows = [f"| release | {names} |", "|---" * (len(sms) + 1) + "|"]
    for release in sorted({release for release, _ in counts}):
        row = []
        for sm in sms:
            found = counts[release, sm]
            row.append(f"{found['built']} of {sum(found.values())}" if found else "-")
        rows.append(f"| {release} | {' | '.join(row)} |")
    for cell in odd:
        rows.append(f"* {cell['release']} SM{cell['sm']} {cell['case']}: {cell['outcome']} "
                    f"{cell.get('reason') or cell.get('warnings', '')}")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
