"""Made-up surface photos with defects and pixel masks, drawn from a seed.

A surface is drawn flat and evenly lit (``TEXTURES``), a defect may be put on it
(``DEFECTS``), and a camera with its own pose, lamp and grain takes the photo.  The
lamp changes from photo to photo by as much as the defects do, so brightness at a
pixel tells little; what gives a defect away is how it breaks the texture.

Conventions: a *surface* is float32 [h, w, 3], BGR, about 0..1; a *cover* is float32
[h, w], 0 where the surface is sound and 1 where the defect is full.  Lengths are in
surface pixels: a photo shows about FIELD x FIELD of them, whatever its own size.
"""
from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np

from ssn_edge.files import replacing
from ssn_edge.frames.image_files import write_image

FIELD = 256      # side of the square of surface that one photo shows
MARGIN = 32      # surface drawn beyond each side, so that a turned camera sees no edge
PITCH = 12       # distance between neighbouring threads of the fabric
STEP = 16        # how far the surface moves between two frames of a clip


# --- Helpers -----------------------------------------------------------------------
def _noise(rng, shape, sigma_x, sigma_y) -> np.ndarray:
    """Smooth noise, float32 [h, w], mean 0 and standard deviation 1; sigmas are blur lengths."""
    white = rng.standard_normal(shape, dtype=np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return (smooth - smooth.mean()) / smooth.std()


def _offsets(shape, centre, angle=0.0):
    """Two float32 [h, w]: each pixel's way from centre (x, y), in axes turned by angle."""
    y, x = np.mgrid[:shape[0], :shape[1]].astype(np.float32)
    x, y = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _blob(rng, shape, centre, radius, ragged, soft) -> np.ndarray:
    """Cover of an uneven ellipse; ragged and soft (its edge) are fractions of radius."""
    u, v = _offsets(shape, centre, rng.uniform(0, np.pi))
    distance = np.hypot(u / radius, v / (radius * rng.uniform(0.6, 0.9)))
    distance += ragged * _noise(rng, shape, radius / 3, radius / 3)
    distance += ragged / 3 * _noise(rng, shape, radius / 10, radius / 10)
    return np.clip((1 - distance) / soft + 0.5, 0, 1)


def _path(rng, centre, length, angle, bend, jag=0.0, step=6.0) -> np.ndarray:
    """Points float64 [n, 2] of a wandering line.  Per step the heading drifts by bend
    and is off by jag (both standard deviations, rad)."""
    count = max(int(length / step), 2)
    heading = angle + np.cumsum(rng.normal(0, bend, count)) + rng.normal(0, jag, count)
    points = np.cumsum(step * np.stack([np.cos(heading), np.sin(heading)], 1), axis=0)
    return points - points.mean(axis=0) + centre


def _stroke(shape, points, width) -> np.ndarray:
    """Cover of a soft-edged line through points, full in a core of the given width."""
    line = np.zeros(shape, np.uint8)
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(line, [fixed], False, 255, max(int(round(width)), 1), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(line.astype(np.float32) / 255, (0, 0), 0.8)


def _relief(height, angle) -> np.ndarray:
    """Light float32 [h, w] on a height map from a low lamp: its slope along angle."""
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.float32(np.cos(angle)) * slope_x + np.float32(np.sin(angle)) * slope_y


def _move(surface, dx, dy) -> np.ndarray:
    """The surface with each pixel fetched from dx, dy (float32 [h, w]) away."""
    x, y = _offsets(surface.shape, (0, 0))
    return cv2.remap(surface, x + dx, y + dy, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REFLECT)


def _mix(surface, other, cover) -> np.ndarray:
    """The surface where cover is 0, other (array or colour) where it is 1."""
    return surface + cover[..., None] * (other - surface)


def _tone(rng, low, high) -> float:
    """A relative change of brightness: low..high, as often darker as brighter."""
    return float(rng.choice([-1, 1]) * rng.uniform(low, high))


# --- Textures: f(rng, height, width) -> surface ---------------------------------------
def brushed_metal(rng, height, width) -> np.ndarray:
    """Steel brushed from left to right: streaks of several lengths and widths."""
    shape = (height, width)
    grey = (0.50 + 0.050 * _noise(rng, shape, 50, 0.7) + 0.040 * _noise(rng, shape, 14, 0.7)
            + 0.030 * _noise(rng, shape, 80, 3) + 0.015 * _noise(rng, shape, 2, 0.6))
    return grey[..., None] * np.array([1.03, 1.0, 0.97], np.float32)


def fabric(rng, height, width) -> np.ndarray:
    """Plain weave: dark threads run down, light ones across, each over then under."""
    shape = (height, width)
    x, y = _offsets(shape, (0, 0))
    u = x / PITCH + 0.07 * _noise(rng, shape, 8, 30)
    v = y / PITCH + 0.07 * _noise(rng, shape, 30, 8)
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    round_u, round_v = np.sin(np.pi * (u - column)), np.sin(np.pi * (v - row))
    columns, rows = (rng.normal(1, 0.05, i.max() + 2) for i in (column, row))   # -1: the spare
    down = round_u ** 0.6 * (0.55 + 0.45 * round_v) * columns[column]
    down *= 1 + 0.09 * _noise(rng, shape, 0.7, 3)
    across = round_v ** 0.6 * (0.55 + 0.45 * round_u) * rows[row]
    across *= 1 + 0.09 * _noise(rng, shape, 3, 0.7)
    dark = (0.3 + 0.7 * down[..., None]) * np.array([0.56, 0.47, 0.40], np.float32)
    light = (0.3 + 0.7 * across[..., None]) * np.array([0.66, 0.70, 0.74], np.float32)
    on_top = (column + row) % 2 == 0                    # where the light thread is
    return np.where(on_top[..., None], light, dark).astype(np.float32)


def granular(rng, height, width) -> np.ndarray:
    """Cast stone: grains in relief, with dark and light pieces set into them."""
    shape = (height, width)
    relief = _relief(_noise(rng, shape, 2.0, 2.0) + _noise(rng, shape, 3.0, 3.0), 0.8)
    grey = 0.52 + 0.16 * relief + 0.02 * _noise(rng, shape, 12, 12)
    surface = grey[..., None] * np.array([0.92, 1.0, 1.06], np.float32)
    for colour, level in (([0.36, 0.38, 0.40], 1.1), ([0.62, 0.68, 0.72], 1.1)):
        pieces = np.clip(3 * (_noise(rng, shape, 1.7, 1.7) - level), 0, 0.75)
        surface = _mix(surface, np.array(colour, np.float32) + 0.1 * relief[..., None], pieces)
    return surface


TEXTURES: dict[str, Callable] = {
    "brushed_metal": brushed_metal, "fabric": fabric, "granular": granular}


# --- Defects: f(rng, surface, centre) -> (surface, cover); centre is (x, y) -----------
def scratch(rng, surface, centre):
    """A thin bent line across the grain: a furrow with a lit and a shaded side."""
    points = _path(rng, centre, rng.uniform(50, 110), rng.uniform(0.4, 2.7), 0.05)
    furrow = _stroke(surface.shape[:2], points, rng.uniform(2, 4))
    shade = _relief(furrow, rng.uniform(0, 2 * np.pi)) + _tone(rng, 0.15, 0.35) * furrow
    return surface * (1 + 0.9 * shade[..., None]), furrow


def stain(rng, surface, centre):
    """A dried liquid: an uneven, brownish patch with a stronger rim, texture drowned."""
    cover = _blob(rng, surface.shape[:2], centre, rng.uniform(24, 40), 0.15, 0.15)
    rim = np.clip(cover - cv2.GaussianBlur(cover, (0, 0), 4), 0, 1)
    tint = 1 - np.float32(rng.uniform(0, 0.25)) * np.array([1, 0.4, 0], np.float32)
    tone = _tone(rng, 0.20, 0.35) * (0.6 + 1.5 * rim[..., None])
    wet = 0.3 * surface + 0.7 * cv2.GaussianBlur(surface, (0, 0), 4)
    return _mix(surface, wet * tint * (1 + tone), cover), cover


def pit(rng, surface, centre):
    """A few small hollows close together, each shaded on one side, lit on the other."""
    shape = surface.shape[:2]
    cover = np.zeros(shape, np.float32)
    for _ in range(rng.integers(3, 6)):
        spot = rng.normal(centre, 15)
        cover = np.maximum(cover, _blob(rng, shape, spot, rng.uniform(7, 12), 0.15, 0.4))
    shade = 1.5 * _relief(cv2.GaussianBlur(cover, (0, 0), 1.2), rng.uniform(0, 2 * np.pi))
    smooth = cv2.GaussianBlur(surface, (0, 0), 3) * rng.uniform(0.45, 0.7)
    return _mix(surface, smooth, cover) * (1 + shade[..., None]), cover


def dent(rng, surface, centre):
    """A shallow knock: the grain bends around it, one flank lit and the other shaded."""
    u, v = _offsets(surface.shape, centre, rng.uniform(0, np.pi))
    bump = np.exp(-(u / rng.uniform(14, 24)) ** 2 - (v / rng.uniform(11, 16)) ** 2)
    x, y = _offsets(surface.shape, centre)
    bent = _move(surface, -0.6 * bump * x, -0.6 * bump * y)
    shade = rng.uniform(5, 8) * _relief(bump, rng.uniform(0, 2 * np.pi))
    return bent * (1 + shade[..., None]), np.clip(1.7 * bump, 0, 1)


def crack(rng, surface, centre):
    """A jagged, branching gap, dark inside, with one worn edge that catches the light."""
    shape = surface.shape[:2]
    angle = rng.uniform(0, np.pi)
    trunk = _path(rng, centre, rng.uniform(90, 160), angle, 0.15, jag=0.6)
    branch = _path(rng, (0, 0), 40, angle + _tone(rng, 0.6, 1.0), 0.15, jag=0.6)
    branch += trunk[len(trunk) // 2] - branch[0]
    gap = np.maximum(_stroke(shape, trunk, rng.uniform(2, 4)), _stroke(shape, branch, 2))
    edge = 0.8 * _relief(gap, rng.uniform(0, 2 * np.pi))
    dark = cv2.GaussianBlur(surface, (0, 0), 2) * rng.uniform(0.35, 0.55)
    return _mix(surface, dark, gap) * (1 + edge[..., None]), gap


def smear(rng, surface, centre):
    """Filler or grease wiped over the surface: the texture is smoothed away."""
    cover = _blob(rng, surface.shape[:2], centre, rng.uniform(24, 40), 0.2, 0.25)
    smooth = cv2.GaussianBlur(surface, (0, 0), 6) * (1 + _tone(rng, 0.02, 0.12))
    return _mix(surface, smooth, 0.9 * cover), cover


def snag(rng, surface, centre):
    """Pulled threads: the weave is drawn aside along a short line, by about a thread."""
    angle = rng.uniform(0, np.pi)
    u, v = _offsets(surface.shape, centre, angle)
    pull = np.exp(-(u / rng.uniform(26, 40)) ** 2 - (v / rng.uniform(11, 14)) ** 2)
    way = angle + _tone(rng, 0.8, 1.6)
    reach = rng.uniform(0.9, 1.3) * PITCH
    pulled = _move(surface, np.float32(reach * np.cos(way)) * pull,
                   np.float32(reach * np.sin(way)) * pull)
    return pulled * (1 + 3 * _relief(pull, way)[..., None]), np.clip(1.7 * pull, 0, 1)


def missing_thread(rng, surface, centre):
    """One or two light threads broken out: only the dark ones are left, and a gap."""
    x, y = _offsets(surface.shape, (centre[0], centre[1] // PITCH * PITCH))
    threads, half = rng.integers(1, 3), rng.uniform(30, 55)
    inside = np.minimum(y + 1, int(threads) * PITCH + 1 - y) / 2
    cover = np.clip(np.minimum(inside, (np.float32(half) - np.abs(x)) / 4), 0, 1)
    left = np.minimum(surface, np.roll(surface, PITCH, axis=1))
    return _mix(surface, left * rng.uniform(0.7, 0.9), cover), cover


DEFECTS = {
    "brushed_metal": (scratch, stain, pit, dent),
    "fabric": (missing_thread, stain, snag, smear),
    "granular": (crack, pit, stain, smear),
}


# --- Camera --------------------------------------------------------------------------------
class CameraPose(NamedTuple):
    """How a photo is taken."""

    pose: np.ndarray     # float64 [2, 3], from surface window to picture
    lamp: np.ndarray     # float32 [FIELD, FIELD, 1], factor on the surface's brightness
    grain: float         # standard deviation of the noise, of 0..1


def _camera(rng) -> CameraPose:
    """A camera a little turned, shifted and zoomed, under a lamp of its own."""
    middle, turn, zoom = FIELD / 2 + MARGIN, rng.uniform(-4, 4), rng.uniform(0.95, 1.05)
    pose = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    pose[:, 2] += rng.uniform(-PITCH / 2, PITCH / 2, 2) - MARGIN
    u, v = _offsets((FIELD, FIELD), rng.uniform(0, FIELD, 2), rng.uniform(0, 2 * np.pi))
    slope = rng.uniform(0, 0.3) * u / FIELD
    glow = rng.uniform(0, 0.3) * np.exp(-(u ** 2 + v ** 2) / (2 * (0.5 * FIELD) ** 2))
    lamp = rng.uniform(0.7, 1.15) * (1 + slope + glow)
    return CameraPose(pose, lamp[..., None], rng.uniform(0.005, 0.02))


def _photograph(rng, camera, surface, cover, size):
    """Photo uint8 [size, size, 3] BGR and mask uint8 [size, size] (0 or 255) of a
    window of the surface, FIELD + 2 * MARGIN on a side."""
    photo = cv2.warpAffine(surface, camera.pose, (FIELD, FIELD)) * camera.lamp
    photo += camera.grain * rng.standard_normal(photo.shape, dtype=np.float32)
    cover = cv2.warpAffine(cover, camera.pose, (FIELD, FIELD))
    way = cv2.INTER_AREA if size < FIELD else cv2.INTER_LINEAR
    photo, cover = (cv2.resize(a, (size, size), interpolation=way) for a in (photo, cover))
    return np.round(255 * np.clip(photo, 0, 1)).astype(np.uint8), np.uint8(255) * (cover > 0.4)


# --- What is written -------------------------------------------------------------------
def make_photo(rng, texture, defect=None, size=FIELD):
    """One photo and its mask (see _photograph); defect is a function or None."""
    side = FIELD + 2 * MARGIN
    surface = TEXTURES[texture](rng, side, side)
    cover = np.zeros((side, side), np.float32)
    if defect is not None:
        surface, cover = defect(rng, surface, rng.uniform(0.3, 0.7, 2) * side)
    return _photograph(rng, _camera(rng), surface, cover, size)


def write_dataset(folder, texture, seed=0, size=FIELD, n_train=120, n_test_good=40,
                  n_per_defect=15, progress=None) -> None:
    """Write a data set in the MVTec AD layout into folder, which must not exist yet.

    Photo i of group g depends on (seed, g, i) alone.  progress(done, total), if given, is
    called after each photo.  The folder appears whole at the end or not at all.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(folder)
    groups: List[Tuple[str, Optional[Callable[..., np.ndarray]], int]] = [
        ("train/good", None, n_train), ("test/good", None, n_test_good),
    ]
    groups += [(f"test/{d.__name__}", d, n_per_defect) for d in DEFECTS[texture]]
    photos = [(g, i) for g, (_, _, count) in enumerate(groups) for i in range(count)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=folder.name + ".", dir=str(folder.parent)))
    try:
        for done, (g, i) in enumerate(photos, 1):
            name, defect, _ = groups[g]
            rng = np.random.default_rng([seed, g, i])
            photo, mask = make_photo(rng, texture, defect, size)
            write_image(draft / name / f"{i:03d}.png", photo)
            if defect is not None:
                truth = draft / "ground_truth" / defect.__name__
                write_image(truth / f"{i:03d}_mask.png", mask)
            if progress is not None:
                progress(done, len(photos))
        draft.chmod(0o755)          # mkdtemp makes it private
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _strip(rng, texture, length, n_defects):
    """A surface `length` long with defects spread down it, and its cover."""
    width = FIELD + 2 * MARGIN
    surface = TEXTURES[texture](rng, length, width)
    cover = np.zeros((length, width), np.float32)
    start, stop = width - MARGIN, length - width + MARGIN
    for i in range(n_defects):
        defect = DEFECTS[texture][i % len(DEFECTS[texture])]
        y = start + (i + 0.5) / n_defects * (stop - start)
        surface, added = defect(rng, surface, (rng.uniform(0.3, 0.7) * width, y))
        cover = np.maximum(cover, added)
    return surface, cover


def write_clip(path, texture, seed=0, size=FIELD, frames=120, fps=30, n_defects=3,
               sound_path=None, sound_frames=300):
    """Write a Motion JPEG film (name it .avi) of the surface running past a fixed camera.

    Frames are square and show the surface at the data set's scale.  To sound_path goes more of the
    same film, another stretch without a defect under the same camera and lamp.  Returns a list: per
    frame of path, how many pixels of defect it shows, 0 for a sound one.
    """
    rng = np.random.default_rng([seed, 1000])   # a group that no data set has
    strip = _strip(rng, texture, _length(frames), n_defects)
    camera = _camera(rng)
    shown = _write_film(path, rng, camera, strip, frames, fps, size)
    if sound_path is not None:
        strip = _strip(rng, texture, _length(sound_frames), 0)
        _write_film(sound_path, rng, camera, strip, sound_frames, fps, size)
    return shown


def _length(frames):
    return FIELD + 2 * MARGIN + STEP * (frames - 1)


def _write_film(path, rng, camera, strip, frames, fps, size):
    """The strip running downwards; how many pixels of defect each frame shows."""
    (surface, cover), shown = strip, []
    with replacing(path) as draft:
        writer = cv2.VideoWriter(str(draft), cv2.VideoWriter_fourcc(*"MJPG"), fps, (size, size))
        if not writer.isOpened():
            raise OSError(f"cannot write {path}")
        for k in reversed(range(frames)):
            window = slice(k * STEP, k * STEP + _length(1))
            photo, mask = _photograph(rng, camera, surface[window], cover[window], size)
            writer.write(photo)
            shown.append(int(np.count_nonzero(mask)))
        writer.release()
    return shown
