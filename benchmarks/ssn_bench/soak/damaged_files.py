"""Files cut, zeroed and flipped: how much of the damage each format tells of, whole files that are refused,
and what the check costs. ``python -m ssn_bench.soak.damaged_files --help``.

Whole files are made up in many shapes and by several encoders (OpenCV's, Pillow's with their options), so
that nothing here depends on one encoder's habits. Damage that leaves every pixel as it was does not count.
"""

from __future__ import annotations

import io
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import click
import cv2
import numpy as np
from PIL import Image

from ssn_bench.measure import environment
from ssn_edge.errors import InputError
from ssn_edge.files import write_json
from ssn_edge.frames import decoding, jpeg, structure
from ssn_edge.frames.decoding import decode

DAMAGES = ("cut", "cut, end mark kept", "zeroed end", "zeroed run", "bit flip")

Encoder = Callable[[np.ndarray], bytes]


def _cv2(suffix: str, *options: int) -> Encoder:
    return lambda image: bytes(cv2.imencode(suffix, image, options)[1])


def _pillow(kind: str, **options: Any) -> Encoder:
    def encode(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image if image.ndim == 2 else image[..., ::-1]).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


ENCODERS: Dict[str, Dict[str, Encoder]] = {
    "JPEG": {
        "OpenCV 95": _cv2(".jpg"), "OpenCV 60": _cv2(".jpg", cv2.IMWRITE_JPEG_QUALITY, 60),
        "OpenCV progressive": _cv2(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "OpenCV optimised": _cv2(".jpg", cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        "OpenCV restarts": _cv2(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
        "Pillow 75": _pillow("JPEG"), "Pillow 4:4:4": _pillow("JPEG", quality=90, subsampling=0),
        "Pillow progressive": _pillow("JPEG", progressive=True, optimize=True),
    },
    "PNG": {
        "OpenCV": _cv2(".png"), "OpenCV 9": _cv2(".png", cv2.IMWRITE_PNG_COMPRESSION, 9),
        "Pillow": _pillow("PNG"), "Pillow optimised": _pillow("PNG", optimize=True),
    },
    "BMP": {"OpenCV": _cv2(".bmp"), "Pillow": _pillow("BMP")},
    "TIFF": {
        "OpenCV raw": _cv2(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1),
        "OpenCV LZW": _cv2(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5),
        "OpenCV deflate": _cv2(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 8),
        "Pillow raw": _pillow("TIFF"), "Pillow LZW": _pillow("TIFF", compression="tiff_lzw"),
        "Pillow deflate": _pillow("TIFF", compression="tiff_adobe_deflate"),
    },
    "WebP": {
        "OpenCV 80": _cv2(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
        "OpenCV lossless": _cv2(".webp", cv2.IMWRITE_WEBP_QUALITY, 101), "Pillow": _pillow("WEBP"),
    },
}


def pictures(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Made-up photos without end: textures, gradients, black grounds, a single grey, noise; grey and
    colour."""
    while True:
        height, width = (int(n) for n in rng.integers(40, 400, 2))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        kind = rng.integers(5)
        if kind in (0, 3):
            image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(1, 6)))
            image = cv2.normalize(image, image, 0, 255, cv2.NORM_MINMAX)
        elif kind == 1:
            image[:] = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
        elif kind == 2:
            image[:] = rng.integers(0, 256)
        if kind == 3:
            image[rng.integers(height // 2, height) :] = 0
        yield image if rng.integers(3) else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)


def damaged(data: bytes, how: str, rng: np.random.Generator) -> bytes:
    """A copy with one kind of damage behind its first 5 %."""
    first = max(32, len(data) // 20)
    place = int(rng.integers(first, max(first + 1, len(data) - 8)))
    if how == "cut":
        return data[:place]
    if how == "cut, end mark kept":
        return data[:place] + data[-12:]
    if how == "zeroed end":
        return data[:place] + bytes(len(data) - place)
    if how == "zeroed run":
        length = int(rng.integers(64, max(65, len(data) // 2)))
        return data[:place] + bytes(len(data[place : place + length])) + data[place + length :]
    changed = bytearray(data)
    changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def outcome(data: bytes, truth: np.ndarray) -> str:
    """"refused", "doubted", "unchanged" where every pixel is as it was, or "missed"."""
    try:
        found = decode(data, "file")
    except InputError:
        return "refused"
    if found.stored.shape == truth.shape and np.array_equal(found.stored, truth):
        return "unchanged"
    return "doubted" if found.doubt else "missed"


def fuzz(count: int, rng: np.random.Generator) -> Dict[str, Dict[str, Counter]]:
    """Outcomes of ``count`` damaged files by format and kind of damage."""
    found: Dict[str, Dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    source = pictures(rng)
    for number in range(count):
        kind = list(ENCODERS)[number % len(ENCODERS)]
        encoders = list(ENCODERS[kind].values())
        data = encoders[int(rng.integers(len(encoders)))](next(source))
        truth = decode(data, "whole").stored
        how = DAMAGES[number // len(ENCODERS) % len(DAMAGES)]
        found[kind][how][outcome(damaged(data, how, rng), truth)] += 1
    return found


def whole(count: int, rng: np.random.Generator) -> Dict[str, Dict[str, Any]]:
    """Of ``count`` whole files: refused and doubted ones, and the check's share of the decoder's time."""
    found: Dict[str, Dict[str, Any]] = {}
    source = pictures(rng)
    kinds = [(kind, name) for kind, encoders in ENCODERS.items() for name in encoders]
    for number in range(count):
        kind, name = kinds[number % len(kinds)]
        encoders = len(ENCODERS[kind])
        row = found.setdefault(kind, {"files": 0, "refused": 0, "doubted": 0, "encoders": encoders})
        row["files"] += 1
        try:
            row["doubted"] += bool(decode(ENCODERS[kind][name](next(source)), "whole").doubt)
        except InputError:
            row["refused"] += 1
    return found


def added_time(rng: np.random.Generator, rounds: int = 15) -> Dict[str, Dict[str, float]]:
    """Time of the check alone over that of the bare decoder on the same 1080p photo, in turn: median and
    quartiles. For JPEG also what the strict decoder takes of OpenCV's time."""
    image = cv2.GaussianBlur(rng.integers(0, 256, (1080, 1920, 3), np.uint8), (0, 0), 2)
    image = cv2.normalize(image, image, 0, 255, cv2.NORM_MINMAX)
    found = {}
    for kind, encoders in ENCODERS.items():
        for name, encode in encoders.items():
            data = encode(image)
            bare = _bare(kind, data)
            found[f"{kind}, {name}: check"] = _ratio(lambda: _check(kind, data), bare, rounds)  # noqa: B023
            if kind == "JPEG":
                found[f"{kind}, {name}: strict decoder over OpenCV's"] = _ratio(bare, _opencv(data), rounds)
    return found


def _ratio(one: Callable[[], object], other: Callable[[], object], rounds: int) -> Dict[str, float]:
    ratios = [_seconds(one) / _seconds(other) for _ in range(rounds)]
    low, median, high = (float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return {"median": median, "low": low, "high": high}


def _check(kind: str, data: bytes) -> None:
    """What ``decode`` does of a whole file besides decoding it."""
    found = structure.inspect(data)
    told = found.tells or kind == "JPEG" and jpeg.simplejpeg is not None
    if not told and (found.packed or kind == "JPEG"):
        data.find(bytes(decoding.HOLE), 0, found.end)
    if not told and kind != "JPEG":
        structure.zero_tail(data, found.end)


def _bare(kind: str, data: bytes) -> Callable[[], object]:
    """What decodes it, without a look at its structure."""
    if kind == "JPEG" and jpeg.simplejpeg is not None:
        return lambda: jpeg.decode_strictly(data)
    return _opencv(data)


def _opencv(data: bytes) -> Callable[[], object]:
    return lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def tables(document: Dict[str, Any]) -> List[str]:
    """Markdown: shares told of by format and damage, whole files, added time."""
    lines = [f"| format | {' | '.join(DAMAGES)} |", "|---" * (len(DAMAGES) + 1) + "|"]
    for kind, row in document["damaged"].items():
        lines.append(f"| {kind} | {' | '.join(_share(row.get(how, {})) for how in DAMAGES)} |")
    lines += ["", "| format | whole files | encoders | refused | doubted |", "|---|---|---|---|---|"]
    lines += [f"| {kind} | {r['files']} | {r['encoders']} | {r['refused']} | {r['doubted']} |"
              for kind, r in document["whole"].items()]
    lines += ["", "| file | share of the decoder's time |", "|---|---|"]
    lines += [f"| {name} | {r['median']:.3f} [{r['low']:.3f}, {r['high']:.3f}] |"
              for name, r in document["time"].items()]
    return lines


def _share(counts: Dict[str, int]) -> str:
    """Refused of those whose pixels changed, and doubted ones beside them."""
    told, doubted = counts.get("refused", 0), counts.get("doubted", 0)
    all_changed = told + doubted + counts.get("missed", 0)
    if not all_changed:
        return "-"
    extra = f" + {doubted / all_changed:.0%} doubted" if doubted else ""
    return f"{told / all_changed:.0%}{extra} of {all_changed}"


@click.command()
@click.option("--files", default=5000, show_default=True, type=click.IntRange(min=1), help="Damaged ones.")
@click.option("--whole", "sound", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="JSON with the counts.")
def main(files: int, sound: int, seed: int, out: Optional[Path]) -> None:
    """Damage made-up files of every format and count what is told of."""
    rng = np.random.default_rng(seed)
    document: Dict[str, Any] = {
        "environment": environment.describe(), "seed": seed, "strict_decode": jpeg.simplejpeg is not None,
        "damaged": {k: {how: dict(c) for how, c in row.items()} for k, row in fuzz(files, rng).items()},
        "whole": whole(sound, rng), "time": added_time(rng),
    }
    for line in tables(document):
        click.echo(line)
    if out:
        write_json(out, document)


if __name__ == "__main__":
    main()
