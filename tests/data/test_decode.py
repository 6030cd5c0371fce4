"""Every mode that Pillow can hold becomes the RGB that a person would expect, and every broken file a reason."""

import io
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.decode import UndecodableError, decode, original_size
from limbeck.data.formats import readable_formats
from limbeck.data.picture import Picture, PixelBudget

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE = (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = [255 * columns / width, 255 * rows / height, 127 + 100 * np.sin(columns / width * 6)]
    return Image.fromarray(np.stack(pixels, axis=-1).astype(np.uint8))


def quarters() -> Image.Image:
    """8 x 4: red and green above, blue and white below."""
    image = Image.new("RGB", (8, 4))
    for colour, box in zip([RED, GREEN, BLUE, WHITE], [(0, 0), (4, 0), (0, 2), (4, 2)], strict=True):
        image.paste(colour, (*box, box[0] + 4, box[1] + 2))
    return image


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(map(int, pixels[row, column])) for row in (0, -1) for column in (0, -1)]


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = smooth(16, 16)
    assert np.array_equal(decode(encoded(image), 16).pixels, np.asarray(image))


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_rotation(orientation: int, expected: list[tuple[int, ...]], kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(encoded(quarters(), kind, exif=exif), 4)
    assert corners(decoded.pixels) == expected
    assert (decoded.width, decoded.height) == ((8, 4) if orientation < 5 else (4, 8))


def test_broken_exif_does_not_lose_the_image() -> None:
    data = encoded(smooth(16, 16), "JPEG", exif=b"Exif\0\0not an exif block")
    assert decode(data, 16).pixels.shape == (16, 16, 3)


def test_cmyk() -> None:
    pixels = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95), 8).pixels
    assert np.abs(pixels.astype(int) - RED).max() <= 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grayscale = np.array([[0, 257, 25700], [32768, 65278, 65535]], dtype=np.uint16).repeat(2, 0).repeat(2, 1)[:4, :4]
    image = Image.fromarray(grayscale)
    assert image.mode == "I;16"
    pixels = decode(encoded(image), 4).pixels
    assert np.array_equal(pixels[..., 0], np.rint(grayscale / 257))
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_thirty_two_bit_modes() -> None:
    wide = Image.fromarray(np.full((4, 4), 25700, dtype=np.int32))
    assert (decode(encoded(wide, "TIFF"), 4).pixels == 100).all()
    real = Image.fromarray(np.full((4, 4), 0.2, dtype=np.float32))
    assert (decode(encoded(real, "TIFF"), 4).pixels == 51).all()


def wide_png(values: np.ndarray) -> bytes:
    """Return a PNG of 16-bit colors, or of gray with alpha, which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + values[row].astype(">u2").tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def wide_tiff(values: np.ndarray, order: str) -> bytes:
    """Return an uncompressed TIFF of 3 x 16 bits, which Pillow cannot write."""
    data, (height, width) = values.astype(f"{order}u2").tobytes(), values.shape[:2]
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 200)]
    tags += [(277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)), (284, 3, 1, 1)]
    short = struct.Struct(f"{order}HHIHH")
    entries = [
        short.pack(tag, kind, count, value, 0)
        if kind == 3 and count == 1
        else struct.pack(f"{order}HHII", tag, kind, count, value)
        for tag, kind, count, value in tags
    ]
    table = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + struct.pack(f"{order}I", 0)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IHHH", 14, 16, 16, 16)
    return (start + table).ljust(200, b"\0") + data


@pytest.mark.parametrize("highest", [256, 65_536, 255_000, 10**6, 2**24, 2**31 - 1])
def test_no_range_leaves_an_image_nearly_black(highest: int) -> None:
    assert decode(np.array([[0, highest]], dtype=np.int32), 2).pixels.max() >= 255 // 4


def test_arrays_that_are_no_images_say_why() -> None:
    for shape, reason in (((3, 8, 8), "moveaxis"), ((0, 8, 3), "no pixels")):
        with pytest.raises(UndecodableError, match=reason):
            decode(np.zeros(shape, np.uint8), 8)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_content_tells_how_many_bits_a_container_of_sixteen_holds(bits: int) -> None:
    top = 2**bits - 1
    values = np.linspace(0, top, 64 * 64 * 3).astype(np.uint16).reshape(64, 64, 3)
    expected = np.rint(values / top * 255)
    gray = values[..., 0]
    colors: list[bytes | np.ndarray] = [
        wide_png(values),
        wide_tiff(values, "<"),
        wide_tiff(values, ">"),
        b"P6\n64 64\n65535\n" + values.astype(">u2").tobytes(),
        values,
        values.astype(np.float32),
    ]
    grays: list[bytes | np.ndarray] = [
        encoded(Image.fromarray(gray)),
        encoded(Image.fromarray(gray), "TIFF"),
        wide_png(np.dstack([gray, np.full_like(gray, 65535)])),
        gray,
        gray.astype(np.int32),
    ]
    for content, channels in [*((color, 3) for color in colors), *((one, 1) for one in grays)]:
        decoded = decode(content, 64)
        assert np.abs(decoded.pixels - expected[..., :channels]).max() <= 1
        assert [issue.name for issue in decoded.issues] == ["unusual_mode"]
        assert f"{bits} bits" in decoded.issues[0].detail


def test_sixteen_bit_colors_with_transparency() -> None:
    values = np.full((8, 8, 4), 4095, np.uint16)
    values[..., 3] = 65535
    values[:4, :, 3] = 0
    values[4:, :, 0] = 0
    pixels = decode(wide_png(values), 8).pixels
    assert (pixels[:4] == 255).all()
    assert (pixels[4:] == (0, 255, 255)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "CMYK", "I;16", "F", "LA"])
@pytest.mark.parametrize(("width", "height"), [(301, 97), (64, 64), (40, 900)])
def test_a_conversion_in_strips_is_one_at_once(
    mode: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = smooth(width, height)
    if mode in ("I;16", "F"):
        image = Image.fromarray(np.asarray(image.convert("L")).astype({"I;16": np.uint16, "F": np.float32}[mode]) * 250)
    elif mode in ("RGBA", "LA"):
        image.putalpha(image.convert("L"))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    whole = decode(image, 16).pixels
    monkeypatch.setattr("limbeck.data.picture.STRIP", 1000)
    assert np.array_equal(decode(image, 16).pixels, whole)
    plain = Picture.load(image, None).rgb((0, 0, width, height))
    assert np.array_equal(whole, np.asarray(plain.resize((16, 16), Image.Resampling.BILINEAR, reducing_gap=2.0)))


def test_a_small_file_of_many_pixels_is_decoded_in_bounded_memory() -> None:
    code = """
import io, resource
from PIL import Image
from limbeck.data.decode import decode
file = io.BytesIO()
Image.new("RGBA", (8000, 8000)).save(file, "PNG")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(file.getvalue(), 64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8000 * 8000 * 4 * 0.6 / 1024  # KiB: what writing needed is used again, and little more


def test_threads_share_the_pixels_that_are_decoded() -> None:
    budget, running, most = PixelBudget(10), 0, 0
    lock = threading.Lock()

    def work(pixels: int) -> None:
        nonlocal running, most
        with budget.reserve(pixels):
            with lock:
                running += min(pixels, 10)
                most = max(most, running)
            time.sleep(0.002)
            with lock:
                running -= min(pixels, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 20, 1, 6, 10, 2, 5] * 4))
    assert running == 0
    assert most <= 10


def test_transparency_is_composited_on_white() -> None:
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert (decode(encoded(half), 4).pixels == 127).all()
    assert (decode(encoded(Image.new("LA", (4, 4), (0, 0))), 4).pixels == 255).all()


def test_palette_with_and_without_transparency() -> None:
    palette = quarters().quantize(4)
    assert np.array_equal(decode(encoded(palette), 8).pixels, np.asarray(quarters().resize((8, 8), 2)))
    blue = palette.getpixel((0, 3))
    pixels = decode(encoded(palette, "PNG", transparency=blue), 4).pixels
    assert corners(pixels) == [RED, GREEN, WHITE, WHITE]


def test_a_transparent_colour_of_an_rgb_file() -> None:
    pixels = decode(encoded(quarters(), "PNG", transparency=RED), 4).pixels
    assert corners(pixels) == [WHITE, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_is_repeated(mode: str) -> None:
    assert (decode(encoded(Image.new(mode, (4, 4), 255)), 4).pixels == 255).all()


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert corners(decode(data, 4).pixels) == [RED] * 4


@pytest.mark.parametrize(("width", "height"), [(640, 480), (97, 301), (1001, 333), (40, 20)])
def test_the_fast_path_for_jpeg_equals_the_plain_resize(width: int, height: int) -> None:
    data = encoded(smooth(width, height), "JPEG", quality=95)
    plain = Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BILINEAR)
    decoded = decode(data, 32)
    assert (decoded.width, decoded.height) == (width, height) == original_size(data)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(plain)).max() <= 4


def test_an_image_of_the_caller_is_not_changed() -> None:
    image = Image.open(io.BytesIO(encoded(smooth(64, 64), "JPEG")))
    decode(image, 4)
    assert image.size == (64, 64)


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.full((4, 4), 7, np.uint8), 7),
        (np.full((4, 4, 1), 7, np.uint8), 7),
        (np.full((4, 4, 3), 7, np.uint16), 7),
        (np.full((4, 4, 3), 1799, np.uint16), 112),  # of 12 bits
        (np.full((4, 4), 7, np.int64), 7),
        (np.full((4, 4), 200.0), 200),
        (np.array([[-1.0, 1.0]] * 2, np.float32).repeat(2, 0).repeat(2, 1), None),  # stretched
        (np.ones((4, 4), np.bool_), 255),
        (np.full((4, 4, 3), 0.5, np.float64), 128),
    ],
)
def test_arrays(array: np.ndarray, value: int | None) -> None:
    pixels = decode(array, 4).pixels
    assert (pixels == value).all() if value is not None else {*pixels.flat} == {0, 255}


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\)"),
        (np.zeros((4, 4), np.complex64), "complex64"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.array([[0, np.inf]] * 2), "not finite"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        decode(array, 4)


def bomb() -> bytes:
    """Return a PNG whose header claims 60,000 x 60,000 pixels."""
    data = bytearray(encoded(Image.new("L", (4, 4))))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is text", "not an image that Pillow can read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "not an image that Pillow can read"),
        (encoded(smooth(64, 64), "JPEG")[:-300], "truncated"),
        (encoded(smooth(64, 64), "PNG")[:200], "truncated"),
        (bomb(), "3,600,000,000 pixels.*178,956,970"),
    ],
    ids=["empty", "text", "postscript", "cut jpeg", "cut png", "bomb"],
)
def test_broken_files_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason) as error:
        decode(data, 8)
    assert "\n" not in str(error.value)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really.png"
    path.write_bytes(encoded(smooth(16, 16), "JPEG"))
    assert decode(path, 8).width == 16


@pytest.mark.parametrize("kind", ["HEIF", "JXL", "AVIF"])
def test_formats_of_plug_ins(kind: str) -> None:
    if kind not in readable_formats():
        pytest.skip(f"no plug-in for {kind}")
    decoded = decode(encoded(smooth(64, 48), kind), 16)
    assert (decoded.width, decoded.height, decoded.format, decoded.issues) == (64, 48, kind, ())


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\xff\x0a\xfa", b"\0\0\0\x0cJXL \r\n\x87\n"])
def test_a_format_without_its_plug_in_names_the_package(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.data.decode.readable_formats", lambda: ("PNG", "JPEG"))
    with pytest.raises(UndecodableError, match=r"limbeck\[heif\]"):
        decode(data, 8)


def test_a_missing_file_has_a_reason_without_its_address() -> None:
    with pytest.raises(UndecodableError, match=r"^No such file or directory$"):
        decode(Path("nowhere.png"), 8)
