"""Pictures of every kind: converted where that is safe, refused in one line where it is not."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spade_cli.errors import UserError
from spade_cli.images import MAX_ASPECT, MIN_SIDE, as_image, load_image


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)  # (H, W, 3)


def refused(path: Path, *words: str) -> None:
    with warnings.catch_warnings(), pytest.raises(UserError) as caught:
        warnings.simplefilter("error")
        load_image(path)
    message = str(caught.value)
    assert "\n" not in message and f"image={path}" in message
    assert all(word in message for word in words), message


def test_rgb_is_read_as_it_is(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "héron (1)=x,.png")
    image = load_image(tmp_path / "héron (1)=x,.png")
    assert image.dtype == torch.uint8 and image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)


def test_grey_and_palette_have_three_equal_or_looked_up_channels(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(load_image(tmp_path / "grey.png").numpy(), np.stack([pixels[..., 0]] * 3))
    palette = Image.fromarray(pixels).quantize(8)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(
        load_image(tmp_path / "palette.png").permute(1, 2, 0).numpy(), np.array(palette.convert("RGB"))
    )


def test_transparency_is_laid_on_white(tmp_path: Path, pixels: np.ndarray) -> None:
    alpha = np.zeros(pixels.shape[:2], np.uint8)
    alpha[:, :10] = 255
    Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / "rgba.png")
    image = load_image(tmp_path / "rgba.png").permute(1, 2, 0).numpy()
    assert np.array_equal(image[:, :10], pixels[:, :10]) and (image[:, 10:] == 255).all()


def test_sixteen_bits_keep_their_greys(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 20 * 30).reshape(20, 30).round().astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    assert np.array_equal(load_image(tmp_path / "deep.png")[0].numpy(), (ramp / 257).round().astype(np.uint8))


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    red, green, blue = load_image(tmp_path / "print.jpg").float().mean(dim=(1, 2))
    assert red > 250 and green < 5 and blue < 5


def test_a_camera_held_upright_gives_an_upright_picture(tmp_path: Path, pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned clockwise
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(load_image(tmp_path / "turned.png").permute(1, 2, 0).numpy(), np.rot90(pixels, -1))


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    refused(tmp_path / "none.png", "no such file")
    refused(tmp_path, "folder")
    for name, content, word in (
        ("empty.png", b"", "empty"),
        ("text.png", b"hello", "no picture"),
        ("a.svg", b"<svg/>", "PNG"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, word)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    for share in (0.05, 0.5, 0.95):
        (tmp_path / f"cut.{suffix}").write_bytes(content[: int(len(content) * share)])
        refused(tmp_path / f"cut.{suffix}")


def test_animated(tmp_path: Path, pixels: np.ndarray) -> None:
    first, second = Image.fromarray(pixels), Image.fromarray(255 - pixels)
    first.save(tmp_path / "film.gif", save_all=True, append_images=[second])
    refused(tmp_path / "film.gif", "2 frames")


@pytest.mark.parametrize(
    ("size", "word"), [((1, 1), "too small"), ((MIN_SIDE - 1, 99), "too small"), ((16, 16 * MAX_ASPECT + 1), "strip")]
)
def test_sizes_that_show_nothing(tmp_path: Path, size: tuple[int, int], word: str) -> None:
    Image.new("RGB", size).save(tmp_path / "odd.png")
    refused(tmp_path / "odd.png", word, f"{size[0]} x {size[1]}")
    with pytest.raises(UserError, match=word):
        as_image(torch.zeros(3, size[1], size[0], dtype=torch.uint8))


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_huge_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    refused(tmp_path / "huge.png", "more than 100 million")


def test_as_image_takes_what_notebooks_hold(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = load_image(tmp_path / "a.png")
    for image in (str(tmp_path / "a.png"), Image.fromarray(pixels), pixels, wanted):
        assert torch.equal(as_image(image), wanted)
    for image in (wanted.float(), pixels[..., 0], wanted[:2], 3):
        with pytest.raises(UserError, match="uint8"):
            as_image(image)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "cannot be read", "check the path")
    with pytest.raises(UserError, match="cannot be read"):
        load_image(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="no such file"):
        load_image("~nobody-of-this-name/cat.png")


def test_the_transparent_grey_of_a_deep_picture_is_white(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    grey = np.full((20, 20), 1000, ">u2")
    grey[:, 10:] = 257 * 7
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 20, 20, 16, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", 1000),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in grey)),
        b"IEND": b"",
    }
    chunks = b"".join(chunk(kind, data) for kind, data in parts.items())
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    image = load_image(tmp_path / "deep.png")
    assert (image[:, :, :10] == 255).all() and (image[:, :, 10:] == 7).all()
