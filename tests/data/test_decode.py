"""Every mode that Pillow can hold becomes the RGB that a person would expect, and every broken file a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.data.decode import UndecodableError, decode, eight_bit, original_size

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
    with pytest.raises(UndecodableError, match=r"outside 0\.\.65535: from -1 to -1"):
        decode(Image.fromarray(np.full((4, 4), -1, dtype=np.int32)), 4)


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
        (np.full((4, 4, 3), 1799, np.uint16), 7),
        (np.ones((4, 4), np.bool_), 255),
        (np.full((4, 4, 3), 0.5, np.float64), 128),
    ],
)
def test_arrays(array: np.ndarray, value: int) -> None:
    assert (decode(array, 4).pixels == value).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"shape \(3, 8, 8\)"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.full((4, 4), 2.5), r"outside \[0, 1\]: from 2.5 to 2.5"),
        (np.full((4, 4), np.nan), "outside"),
    ],
)
def test_arrays_that_are_no_images(array: np.ndarray, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        decode(array, 4)


def test_eight_bit_covers_the_whole_range() -> None:
    assert eight_bit(np.array([0, 65535], np.uint16)).tolist() == [0, 255]
    assert eight_bit(np.array([0.0, 1.0])).tolist() == [0, 255]


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
        (bomb(), "3600000000 pixels.* exceeds limit"),
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


def test_a_missing_file_has_a_reason_without_its_address() -> None:
    with pytest.raises(UndecodableError, match=r"^No such file or directory$"):
        decode(Path("nowhere.png"), 8)
