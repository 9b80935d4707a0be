"""Whole or broken, by damage that is made here and pixels of another library."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge.errors import InputError
from ssn_edge.frames import decoding, formats, jpeg
from ssn_edge.frames.decoding import Reading, decode

strict = pytest.mark.skipif(jpeg.simplejpeg is None, reason="simplejpeg is not installed (strict-decode)")


def grey(image):
    return np.ascontiguousarray(image[..., 0])


def texture(height=96, width=128, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return image


def encoded(suffix, *options, image=None):
    if suffix not in formats.image_suffixes():
        pytest.skip(f"this OpenCV has no {suffix}")
    return bytes(cv2.imencode(suffix, texture() if image is None else image, options)[1])


def refused(data):
    with pytest.raises(InputError, match=r"file: not a complete image .*; save or copy it again"):
        decode(data, "file")


JPEGS = {
    "baseline": (), "progressive": (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "optimised": (cv2.IMWRITE_JPEG_OPTIMIZE, 1), "restarts": (cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
}


@strict
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("kind", JPEGS)
def test_the_strict_decoder_gives_opencvs_pixels(kind, seed):
    """200 files: odd sizes, grey and colour, several qualities."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(17, 130, 2)
    image = texture(height, width, seed)
    image = grey(image) if seed % 3 == 0 else image
    quality = (cv2.IMWRITE_JPEG_QUALITY, 50 + seed)
    data = encoded(".jpg", *JPEGS[kind], *quality, image=image)
    found = decode(data, "file")
    assert found.told and not found.doubt
    np.testing.assert_array_equal(found.stored, cv2.imdecode(np.frombuffer(data, np.uint8), -1))


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_cut_anywhere_is_refused(kind):
    data = encoded(".jpg", *JPEGS[kind])
    for share in (0.1, 0.5, 0.9, 0.999):
        refused(data[: int(share * len(data))])


@strict
@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_a_scan_that_ends_early_before_the_end_marker_is_refused(kind):
    data = encoded(".jpg", *JPEGS[kind])
    refused(data[: len(data) // 2] + b"\xff\xd9")
    middle = len(data) // 2
    refused(data[:middle] + bytes(200) + data[middle + 200 :])


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    data = encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    last = data.rfind(b"\xff\xda")
    assert cv2.imdecode(np.frombuffer(data[:last] + b"\xff\xd9", np.uint8), -1) is not None
    refused(data[:last] + b"\xff\xd9")


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=3000), st.booleans(), st.booleans())
def test_what_lies_behind_the_end_marker_does_not_count(trailer, marked, cut):
    """Motion photos carry a video there, with bytes that look like any marker."""
    data = encoded(".jpg")
    trailer = trailer + (b"\xff\xda\x00\x08" + trailer if marked else b"")
    if cut:
        refused(data[: len(data) // 2])
        with pytest.raises(InputError):
            decode(data[: data.find(b"\xff\xda") + 2], "file")
    else:
        np.testing.assert_array_equal(decode(data + trailer, "file").stored, decode(data, "file").stored)


@strict
def test_a_cut_jpeg_with_a_trailer_is_refused():
    rng = np.random.default_rng(1)
    data = encoded(".jpg")
    for _ in range(40):
        trailer = rng.integers(0, 256, 3000, np.uint8).tobytes()
        with pytest.raises(InputError):
            decode(data[: len(data) // 2] + trailer + b"\xff\xd9", "file")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".pgm", ".ppm", ".gif"])
def test_cut_files_are_refused(suffix):
    data = encoded(suffix, image=grey(texture()) if suffix == ".pgm" else None)
    assert not decode(data, "file").doubt
    for share in (0.2, 0.6, 0.98):
        refused(data[: int(share * len(data))])


def test_png_and_deflated_tiff_have_checksums():
    for data in (encoded(".png"), encoded(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 8)):
        assert decode(data, "file").told
        for place in (len(data) // 2, int(0.8 * len(data))):
            refused(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])


@pytest.mark.parametrize("options", [(cv2.IMWRITE_TIFF_COMPRESSION, 5), (cv2.IMWRITE_TIFF_COMPRESSION, 8)])
def test_a_compressed_tiff_with_a_hole_is_refused(options):
    data = encoded(".tif", *options, image=texture(300, 400))
    middle = len(data) // 2
    refused(data[:middle] + bytes(5000) + data[middle + 5000 :])


def test_a_zeroed_half_of_a_webp_is_refused():
    data = encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 90, image=texture(300, 400))
    refused(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def test_formats_without_checksums_doubt_a_tail_of_zeros():
    for suffix in (".bmp", ".pgm"):
        image = grey(texture())
        data = encoded(suffix, image=image)
        half = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
        found = decode(half, "file")
        assert not found.told and "zeros" in found.doubt
        assert not decode(data, "file").doubt


@pytest.mark.parametrize("suffix, options", [
    (".webp", (cv2.IMWRITE_WEBP_QUALITY, 50)), (".jpg", (cv2.IMWRITE_JPEG_OPTIMIZE, 1)), (".jp2", ()),
    (".png", ()), (".tif", (cv2.IMWRITE_TIFF_COMPRESSION, 5)), (".gif", ()),
])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_picture_of_one_colour_is_whole(suffix, options, grey):
    """An encoder may write it as thousands of zero bits."""
    data = encoded(suffix, *options, image=np.full((2000, 3000, 3), grey, np.uint8))
    assert not decode(data, "file").doubt


def test_several_pictures_in_one_file_are_told(tmp_path):
    pages = [texture(20, 30, seed) for seed in range(3)]
    cv2.imwritemulti(str(tmp_path / "pages.tif"), pages)
    cv2.imwritemulti(str(tmp_path / "page.tif"), pages[:1])
    assert decode((tmp_path / "pages.tif").read_bytes(), "file").several
    assert not decode((tmp_path / "page.tif").read_bytes(), "file").several


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_are_told(kind):
    image = pytest.importorskip("PIL.Image")
    if f".{kind.lower()}" not in formats.image_suffixes():
        pytest.skip(f"this OpenCV has no {kind}")
    frames = [image.fromarray(texture(20, 30, seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    assert decode(buffer.getvalue(), "file").several
    buffer = io.BytesIO()
    frames[0].save(buffer, kind)
    assert not decode(buffer.getvalue(), "file").several


def with_exif(data, tag):
    """The JPEG with an orientation tag, by hand."""
    block = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x0112, 3, 1, tag, 0) + bytes(4)
    body = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


TURNED = {  # what Exif 2.3 says of the first row and column
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("tag", TURNED)
def test_orientation_tags_are_applied_to_jpeg(tag):
    data = encoded(".jpg")
    plain = decode(data, "file").stored
    found = decode(with_exif(data, tag), "file")
    assert found.tag == tag
    np.testing.assert_array_equal(found.stored, TURNED[tag](plain))
    ignored = decode(with_exif(data, tag), "file", Reading(orientation="ignored"))
    np.testing.assert_array_equal(ignored.stored, plain)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("tag", TURNED)
def test_orientation_tags_are_applied_to_every_format(kind, tag):
    image = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    features = pytest.importorskip("PIL.features")
    if kind == "AVIF" and not (features.check("avif") and ".avif" in formats.image_suffixes()):
        pytest.skip("no AVIF here")
    picture, buffer = image.fromarray(texture(20, 32)), io.BytesIO()
    if kind == "TIFF":
        picture.save(buffer, kind, tiffinfo={0x0112: tag})
    else:
        exif = picture.getexif()
        exif[0x0112] = tag
        options = {"lossless": True} if kind != "AVIF" else {"quality": 100, "subsampling": "4:4:4"}
        picture.save(buffer, kind, exif=exif, **options)
    expected = np.asarray(ops.exif_transpose(image.open(io.BytesIO(buffer.getvalue()))).convert("RGB"))
    found = decode(buffer.getvalue(), "file").stored[..., ::-1]
    assert found.shape == expected.shape
    assert abs(found.astype(int) - expected).max() <= (8 if kind == "AVIF" else 0)  # lossy, two decoders


def test_bits_of_sixteen():
    twelve = (grey(texture()).astype(np.uint16) << 4) | 15
    data = encoded(".png", image=twelve)
    np.testing.assert_array_equal(decode(data, "file").bgr("file", Reading(bits=12))[..., 0], twelve >> 4)
    assert decode(data, "file").bgr("file", Reading()).max() == twelve.max() >> 8
    with pytest.raises(InputError, match=f"grey value {twelve.max()} needs 12 bits, .* 10 of 16"):
        decode(data, "file").bgr("file", Reading(bits=10))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([
    b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM",
    b"P5 3 3 255 ", b"\0\0\0\x1cftypavif",
]))
def test_any_bytes_are_an_image_or_one_line(data, head):
    try:
        assert decode(head + data, "file").stored.size
    except InputError as error:
        assert "\n" not in str(error)


def test_a_tiff_whose_directory_names_more_than_there_is():
    data = bytearray(encoded(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1))
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for number in range(count):
        tag, kind, n, value = struct.unpack_from("<HHII", data, place + 2 + 12 * number)
        if tag == 257:  # height
            struct.pack_into("<HHII", data, place + 2 + 12 * number, tag, kind, n, 1 << 15)
    with pytest.raises(InputError):
        decode(bytes(data), "file")


def test_png_chunks_behind_the_end_do_not_count():
    data = encoded(".png")
    chunk = b"junk"
    trailer = struct.pack(">I", 4) + b"IDAT" + chunk + struct.pack(">I", zlib.crc32(b"IDAT" + chunk))
    np.testing.assert_array_equal(decode(data + trailer, "file").stored, decode(data, "file").stored)


def test_without_the_strict_decoder_jpegs_cannot_be_told(monkeypatch):
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    data = encoded(".jpg", image=texture(400, 500))
    assert not decode(data, "file").told and not decode(data, "file").doubt
    middle = len(data) // 2
    assert "zeros inside" in decode(data[:middle] + bytes(2000) + data[middle + 2000 :], "file").doubt
    assert decoding.EXTRA == "strict-decode"


def test_lossless_webp_with_flat_areas_is_whole():
    """libwebp's fastest method writes them as long runs of zeros."""
    image = pytest.importorskip("PIL.Image")
    picture = texture(600, 800)
    picture[:, 300:] = 0
    for method in (0, 3, 6):
        buffer = io.BytesIO()
        image.fromarray(picture).save(buffer, "WEBP", lossless=True, method=method)
        np.testing.assert_array_equal(decode(buffer.getvalue(), "file").stored, picture[..., ::-1])


def test_a_compression_that_is_not_read_is_named():
    data = bytearray(encoded(".tif", cv2.IMWRITE_TIFF_COMPRESSION, 5))
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for number in range(count):
        entry = place + 2 + 12 * number
        if struct.unpack_from("<H", data, entry)[0] == 259:
            struct.pack_into("<H", data, entry + 8, 34925)
    with pytest.raises(InputError, match="compression 34925 may not be read here"):
        decode(bytes(data), "file")
