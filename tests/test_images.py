"""Pictures of every kind: converted where that is safe, refused in one line where it is not."""

import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.images.find import find_images
from spade_cli.images.load import MAX_ASPECT, MIN_SIDE, as_image, load_image, read_image


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


def deep_png(path: Path, values: np.ndarray, clear: int | None = None) -> Path:
    """A PNG of 16 bits by hand, (H, W) grey or (H, W, 3): Pillow writes no colours of 16 bits, and no clear grey."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0 if values.ndim == 2 else 2, 0, 0, 0))]
    chunks += [chunk(b"tRNS", struct.pack(">H", clear))] if clear is not None else []
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])
    )
    return path


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
        ("text.png", b"hello", "not a picture"),
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
    clear = np.dstack([pixels, np.full((20, 30), 255, np.uint8)])
    for image in (
        *(str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(pixels), clear),
        *(pixels, wanted, pixels[None], wanted[None], wanted.numpy(), torch.from_numpy(pixels)),
    ):
        assert torch.equal(as_image(image), wanted)
    for grey in (pixels[..., 0], pixels[..., :1], wanted[0], wanted[:1], wanted[None, :1]):
        assert torch.equal(as_image(grey), wanted[:1].repeat(3, 1, 1))


def test_as_image_says_what_is_not_an_image(pixels: np.ndarray) -> None:
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image, *words in (
        ([[1, 2], [3, 4]], "type list is not an image", "uint8"),
        (None, "type NoneType is not an image"),
        (3, "type int is not an image"),
        (b"picture", "type bytes is not an image"),
        (tensor.float() / 255, "torch.float32 (3, 20, 30)", "(255 * image)", "normalised"),
        (pixels / 255, "an array of float64 (20, 30, 3)", "astype('uint8')"),
        (tensor.bfloat16(), "torch.bfloat16"),
        (tensor.bool(), "torch.bool"),
        (torch.stack([tensor, tensor]), "a batch of 2 images", "image[0]"),
        (tensor[:2], "(2, 20, 30) is not an image"),
        (tensor[None, None], "(1, 1, 3, 20, 30) is not an image"),
        (tensor.to_sparse(), "sparse"),
        (torch.zeros(3, 0, 0, dtype=torch.uint8), "0 x 0"),
        (np.array("cat.jpg"), "an array of"),
    ):
        with pytest.raises(UserError) as caught:
            as_image(image)  # type: ignore[arg-type]
        message = str(caught.value)
        assert message.startswith("image") and "\n" not in message and all(word in message for word in words), message


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "cannot be read", "check the path")
    with pytest.raises(UserError, match="cannot be read"):
        load_image(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="no such file"):
        load_image("~nobody-of-this-name/cat.png")


def test_the_transparent_grey_of_a_deep_picture_is_white(tmp_path: Path) -> None:
    grey = np.full((20, 20), 1000)
    grey[:, 10:] = 257 * 200
    image = load_image(deep_png(tmp_path / "deep.png", grey, clear=1000))
    assert (image[:, :, :10] == 255).all() and (image[:, :, 10:] == 200).all()


@pytest.mark.parametrize(
    ("top", "bits"), [(3, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16383, 14)]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_greys_of_fewer_bits_are_scaled_to_white(tmp_path: Path, top: int, bits: int, suffix: str) -> None:
    grey = np.linspace(0, top, 20 * 30).reshape(20, 30).round().astype(np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(grey).save(path)
    image, notes = read_image(path)
    white = 2**bits - 1
    assert np.array_equal(image[0].numpy(), np.rint(grey / white * 255).astype(np.uint8))
    assert len(notes) == 1 and f"{bits} bits" in notes[0] and str(white) in notes[0]


@pytest.mark.parametrize("top", [16384, 65535])
def test_greys_of_sixteen_bits_stay(tmp_path: Path, top: int) -> None:
    grey = np.linspace(0, top, 20 * 30).reshape(20, 30).round().astype(np.uint16)
    image, notes = read_image(deep_png(tmp_path / "deep.png", grey))
    assert notes == () and int(image.max()) == round(top / 257)


def test_the_clear_grey_does_not_count_as_the_brightest(tmp_path: Path) -> None:
    grey = np.full((20, 20), 60_000)
    grey[:, 10:] = np.linspace(0, 4095, 10).round()
    image, notes = read_image(deep_png(tmp_path / "deep.png", grey, clear=60_000))
    assert "12 bits" in notes[0] and (image[:, :, :10] == 255).all() and image[0, 0, 10:].tolist()[::9] == [0, 255]


@pytest.mark.parametrize(("top", "read"), [(4095, False), (16383, False), (16384, True), (65535, True)])
def test_colours_of_fewer_bits_are_refused(tmp_path: Path, top: int, read: bool) -> None:
    path = deep_png(tmp_path / "deep.png", np.linspace(0, top, 20 * 30 * 3).reshape(20, 30, 3).round())
    if read:
        assert read_image(path)[1] == ()
    else:
        refused(path, "16 bits a colour", "8 bits")


def with_alpha(path: Path, pixels: np.ndarray, alpha: int, visible: int = 0) -> Path:
    """The picture with this alpha, and its first `visible` columns opaque."""
    whole = np.full(pixels.shape[:2], alpha, np.uint8)
    whole[:, :visible] = 255
    Image.fromarray(np.dstack([pixels, whole])).save(path)
    return path


def test_a_fully_transparent_picture_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    refused(with_alpha(tmp_path / "clear.png", pixels, 0), "fully transparent")
    refused(deep_png(tmp_path / "grey.png", np.full((20, 20), 7), clear=7), "fully transparent")
    palette = Image.fromarray(np.zeros((20, 20), np.uint8), "P")
    palette.putpalette([200, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    refused(tmp_path / "palette.png", "fully transparent")
    with pytest.raises(UserError, match="fully transparent"):
        as_image(Image.new("RGBA", (20, 20), (200, 0, 0, 0)))


def test_a_nearly_transparent_picture_is_noted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 100, 3), dtype=np.uint8)
    assert read_image(with_alpha(tmp_path / "a.png", pixels, 0, visible=5))[1] == ()
    (note,) = read_image(with_alpha(tmp_path / "b.png", pixels, 0, visible=4))[1]
    assert note.startswith("96.0% of the picture is transparent")
    (note,) = read_image(with_alpha(tmp_path / "c.png", pixels, 10))[1]  # a breath of colour everywhere
    assert "transparent" in note


def test_a_picture_of_one_colour_is_noted(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "plain.png")
    assert "one colour" in read_image(tmp_path / "plain.png")[1][0]
    white = with_alpha(tmp_path / "white.png", np.full_like(pixels, 255), 0, visible=15)  # white signs on nothing
    assert "one colour" in read_image(white)[1][0]


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]


@pytest.mark.parametrize("mode", [*MODES, "La", "RGBa", "I", "I;16", "I;16B", "I;16L"])
def test_pillow_images_of_every_mode(pixels: np.ndarray, mode: str) -> None:
    wanted = Image.fromarray(pixels)
    if mode.startswith("I"):
        grey = pixels[..., 0].astype(">u2" if mode == "I;16B" else "<u2") * 257
        image = Image.frombytes("I;16" if mode == "I" else mode, (30, 20), grey.tobytes())
        image, wanted = (image.convert("I") if mode == "I" else image), Image.fromarray(pixels[..., 0])
    else:
        image = wanted.convert({"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)).convert(mode)
        wanted = image.convert({"La": "LA", "PA": "P"}.get(mode, mode))
    found = as_image(image).permute(1, 2, 0).numpy().astype(int)
    assert abs(found - np.asarray(wanted.convert("RGB"), int)).max() <= 1


def test_pillow_images_without_a_white_are_refused() -> None:
    with pytest.raises(UserError, match="floating-point"):
        as_image(Image.new("F", (20, 20)))


def test_urls_are_read(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert torch.equal(load_image(f"file://{tmp_path}/a.png"), load_image(tmp_path / "a.png"))
    assert torch.equal(as_image(f"file://{tmp_path}/a.png"), load_image(tmp_path / "a.png"))


@pytest.mark.parametrize("verb", ["run", "batch", "sweep"])
def test_notes_of_a_picture_are_flags_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.linspace(0, 4095, 40 * 50).reshape(40, 50).astype(np.uint16)).save("deep.png")
    quick = (
        *("model=python", "model.factory=networks:small", "model.size=32", "augmentation.samples=2"),
        *("pruner=magnitude", "schedule=uniform", "interpreter=saliency", "interpreter.methods=[saliency]", "keep=[]"),
    )
    asked = {"run": ["image=deep.png"], "batch": ["images=deep.png"], "sweep": ["image=deep.png", "seed=0,1"]}[verb]
    assert main([verb, *asked, *quick]) == 0
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("summary.json")]
    assert len(found) == (2 if verb == "sweep" else 1)
    for summary in found:
        assert any("holds 12 bits" in flag for flag in summary["flags"]), summary["flags"]


def test_arrays_are_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for name, array in {"bytes": pixels, "first": pixels.transpose(2, 0, 1), "floats": pixels / 255}.items():
        np.save(tmp_path / name, array)
        image, notes = read_image(tmp_path / f"{name}.npy")
        assert image.equal(torch.from_numpy(pixels).permute(2, 0, 1))
        assert notes == (() if name != "floats" else (notes[0],)) and all("from 0 to 1" in note for note in notes)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((20, 20, 3), 3.0), "not an image of bytes"),
        (np.full((20, 20, 3), np.nan), "not an image of bytes"),
        (np.zeros((4, 20, 20, 3), np.uint8), "batch of 4 images"),
        (np.zeros((20, 20, 7), np.uint8), "is not an image"),
        (np.array([print], dtype=object), "is not an array of pixels"),
    ],
)
def test_arrays_that_are_no_pictures(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=reason) as caught:
        read_image(tmp_path / "a.npy")
    assert str(caught.value).startswith(f"image={tmp_path / 'a.npy'}") and "\n" not in str(caught.value)


def test_an_array_is_found_where_it_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((20, 20, 3), np.uint8))
    Image.new("RGB", (20, 20)).save(tmp_path / "b.png")
    assert [Path(path).name for path in find_images(str(tmp_path), "out")] == ["b.png"]
    assert [Path(path).name for path in find_images(f"{tmp_path}/*", "out")] == ["a.npy", "b.png"]
