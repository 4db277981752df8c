"""A path or URL of an image -> uint8 tensor (3, H, W), or one line that says why it cannot be read."""

import os
import stat
import struct
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from spade_cli.errors import UserError, error_line
from spade_cli.files import expand_path
from spade_cli.images.download import copy_to_folder, is_url

# Formats that Pillow decodes by itself; others start a program (EPS) or are not for photographs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
ARRAY = ".npy"  # of numpy.save
MIN_SIDE = 16  # smaller pictures become blocks of 14 px and more at 224 px: maps would show the resizing
MAX_PIXELS = 100_000_000  # 0.3 GB as RGB, and far more than networks see
MAX_ASPECT = 50  # the centre crop of a longer strip shows less than 2 % of it, and its resizing takes too much memory
FEWER_BITS = (8, 10, 12, 14)  # that cameras, microscopes and scanners write into files of 16 bits a pixel
MOST_DIM = 63  # of 255: white in 14 bits, of which Pillow keeps the upper byte of 16 bits a colour
LEAST_VISIBLE = 0.05  # share of a picture; with less, maps show the white behind it
CHANNELS = (1, 3, 4)  # grey, colours, colours with transparency
ACCEPTED = "give a path, a Pillow image, a uint8 tensor (3, H, W) or a uint8 array (H, W, 3)"
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error)


def load_image(path: str | Path) -> Tensor:
    """Read a picture from a path or URL as uint8 (3, H, W), upright, on white where it is transparent.

    Greys of fewer than 16 bits in a file of 16 are scaled to white; `read_image` notes it. Raises UserError for a
    picture that cannot be read.
    """
    return read_image(path)[0]


def read_image(path: str | Path, source: str = "") -> tuple[Tensor, tuple[str, ...]]:
    """The picture as `load_image` reads it, and notes that the user should know, a line each.

    `source` is the URL that the file at `path` was copied from, for errors.
    """
    if isinstance(path, str) and is_url(path):
        with tempfile.TemporaryDirectory(prefix="spade-") as folder:
            return read_image(copy_to_folder(path, Path(folder)), path)
    path = expand_path(path)
    asked = f"image={source or path}"
    _check_file(path, asked)
    if path.suffix.lower() == ARRAY:
        return _read_array(path, asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused or converted below
        try:
            opened = Image.open(path, formats=_formats())
        except Image.DecompressionBombError:
            raise UserError(_describe_size(asked)) from None
        except UnidentifiedImageError:
            raise UserError(
                f"{asked} is not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP, .npy can be); save it as PNG"
            ) from None
        except DAMAGE as error:
            raise UserError(_describe_damage(asked, error)) from None
        with opened as picture:
            return _convert(picture, asked)


def as_image(image: "str | Path | Image.Image | Tensor | np.ndarray") -> Tensor:
    """An image in a notebook as uint8 (3, H, W).

    A path, a URL or a Pillow image; a uint8 tensor or array (3, H, W), (H, W, 3) or (H, W), with transparency
    as a fourth channel, or a batch of one. Raises UserError for anything else.
    """
    if isinstance(image, str | os.PathLike):
        return load_image(image if isinstance(image, str) else Path(image))
    if isinstance(image, Tensor | np.ndarray):
        image = _convert_values(image)
    if not isinstance(image, Image.Image):
        raise UserError(f"image: an object of type {type(image).__name__} is not an image; {ACCEPTED}")
    return _convert(image, "image")[0]


def _read_array(path: Path, asked: str) -> tuple[Tensor, tuple[str, ...]]:
    """A file of numpy.save: bytes, or numbers from 0 to 1, which are rounded to 256 levels."""
    try:
        values = np.load(path, allow_pickle=False)  # an array of objects would be code
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise UserError(
            f"{asked} is not an array of pixels ({error_line(error, None)}); save it with numpy.save(file, pixels), "
            "uint8 (H, W, 3)"
        ) from None
    if (
        values.dtype.kind == "f"
        and values.size
        and np.isfinite(values).all()
        and 0 <= values.min() <= values.max() <= 1
    ):
        pixels, notes = _convert(_convert_values((255 * values).round().astype(np.uint8), asked), asked)
        return pixels, (*notes, "the array holds numbers from 0 to 1: they were rounded to 256 levels")
    return _convert(_convert_values(values, asked), asked)


def _convert_values(values: "Tensor | np.ndarray", asked: str = "image") -> Image.Image:
    """A tensor or an array of bytes as a Pillow image."""
    shape = tuple(values.shape)
    found = f"{asked}: {'a tensor' if isinstance(values, Tensor) else 'an array'} of {values.dtype} {shape}"
    if values.dtype not in (torch.uint8, np.dtype(np.uint8)):
        kind = "to(torch.uint8)" if isinstance(values, Tensor) else "astype('uint8')"
        raise UserError(
            f"{found} is not an image of bytes, which go from 0 to 255; where its values go from 0 to 1, give "
            f"(255 * image).round().{kind}; where they are normalised, give the picture as it was before"
        )
    if isinstance(values, Tensor) and values.layout != torch.strided:
        raise UserError(f"{found} is sparse; {ACCEPTED}")
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    if array.ndim == 4 and len(array) != 1:
        raise UserError(f"{found} is a batch of {len(array)} images; give one of them, such as image[0]")
    array = array[0] if array.ndim == 4 else array
    array = array[None] if array.ndim == 2 else array  # a grey picture: (1, H, W)
    places = [axis for axis in (0, -1) if array.ndim == 3 and array.shape[axis] in CHANNELS]  # sides are longer
    if not places:
        raise UserError(f"{found} is not an image; {ACCEPTED}")
    pixels = np.moveaxis(array, places[0], -1)  # (H, W, C)
    _check_size(pixels.shape[1], pixels.shape[0], asked)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def _check_file(path: Path, asked: str) -> None:
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:  # a run's records are UTF-8, and name its picture
        shown = asked.encode("utf-8", "replace").decode()
        raise UserError(f"{shown} has a name, or lies in a folder, that is not UTF-8 text: rename it") from None
    except (OSError, RuntimeError, ValueError):  # links in a circle, a null byte: refused below
        pass
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{asked} is a folder: give the path of one picture")
        if not stat.S_ISREG(mode):
            raise UserError(f"{asked} is not an ordinary file: give the path of a picture")
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(f"{asked} is empty (0 bytes): give another picture")
    except FileNotFoundError:
        raise UserError(f"{asked}: no such file; check the path, which starts in {Path.cwd()}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise UserError(
            f"{asked} cannot be read ({getattr(error, 'strerror', None) or error}): check the path and its permissions"
        ) from None


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(width: int, height: int, asked: str) -> None:
    """Raise UserError for a picture that is too large, too small or too long. Nothing is decoded yet."""
    if width * height > MAX_PIXELS:
        raise UserError(_describe_size(f"{asked} ({width} x {height})"))
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{asked} is {width} x {height} pixels: too small to explain; give one of at least {MIN_SIDE} x {MIN_SIDE}"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(f"{asked} is {width} x {height} pixels: a strip longer than {MAX_ASPECT} to 1; crop it")


def _describe_size(found: str) -> str:
    limit = f"more than {MAX_PIXELS // 1_000_000} million"
    return f"{found} has {limit} pixels; make it smaller, networks look at a few hundred pixels a side"


def _describe_damage(asked: str, error: Exception) -> str:
    return f"{asked} is truncated or damaged ({error_line(error, None)}); get the picture again"


def _convert(picture: Image.Image, asked: str) -> tuple[Tensor, tuple[str, ...]]:
    # A camera's MPO has previews behind the picture; any other file with frames is a film or a document.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise UserError(f"{asked} has {frames} frames: save the one to explain as a picture of its own")
    _check_size(*picture.size, asked)
    greys = picture.mode.startswith("I")  # 16 bits a pixel; Pillow's own conversion would clip them at 255
    halved = not greys and ";16" in _raw_mode(picture)  # 16 bits a colour, of which Pillow keeps the upper 8
    try:
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        rgb, notes = (_convert_greys if greys else _convert_colours)(picture, asked)
        pixels = np.array(rgb)  # (H, W, 3)
    except DAMAGE as error:
        raise UserError(_describe_damage(asked, error)) from None
    if halved and 0 < pixels.max() <= MOST_DIM:
        raise UserError(
            f"{asked} has 16 bits a colour, and its brightest value is {pixels.max() / 255:.0%} of white: save it with "
            "8 bits a colour, its brightest as white"
        )
    if (pixels == pixels[0, 0]).all():
        notes = (*notes, "the picture has one colour everywhere: there is nothing in it to explain")
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), notes  # (3, H, W)


def _raw_mode(picture: Image.Image) -> str:
    """How the file stores its pixels, such as "RGB;16B"; empty for a picture that is decoded already."""
    tiles = getattr(picture, "tile", None)
    kept = tiles[0][3] if tiles else ""
    return str(kept[0] if isinstance(kept, tuple) and kept else kept)


def _convert_greys(picture: Image.Image, asked: str) -> tuple[Image.Image, tuple[str, ...]]:
    grey = np.asarray(picture)  # (H, W)
    if grey.min() < 0 or grey.max() > 65535:
        raise UserError(f"{asked} has 32 bits a pixel: save it with 8 or 16")
    clear = picture.info.get("transparency")  # PNG's one grey that means transparent
    opaque = grey != clear if isinstance(clear, int) else np.ones(grey.shape, bool)
    notes = _check_visible(float(opaque.mean()), asked)
    top = int(grey[opaque].max())
    bits = next((bits for bits in FEWER_BITS if 0 < top < 2**bits), 16)
    white = 2**bits - 1
    if bits < 16:
        notes += (f"the picture holds {bits} bits a pixel in a file of 16: it was scaled so that {white} is white",)
    values = np.where(opaque, (grey * (255 / white)).round(), 255)
    return Image.fromarray(values.astype(np.uint8)).convert("RGB"), notes


def _convert_colours(picture: Image.Image, asked: str) -> tuple[Image.Image, tuple[str, ...]]:
    if picture.mode == "F":
        raise UserError(
            f"{asked} holds floating-point numbers, whose white is not known: save it with 8 or 16 bits a pixel"
        )
    if picture.mode == "La":  # the only mode that Pillow cannot convert to RGB in one step
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        try:
            return picture.convert("RGB"), ()
        except ValueError:
            raise UserError(f"{asked} has its colours as {picture.mode}: save it as RGB") from None
    picture = picture.convert("RGBA")
    notes = _check_visible(float(np.asarray(picture.getchannel("A")).mean() / 255), asked)
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB"), notes


def _check_visible(share: float, asked: str) -> tuple[str, ...]:
    """Refuse a picture that is transparent everywhere; a note where little of it is opaque."""
    if share == 0:
        raise UserError(f"{asked} is fully transparent, so there is nothing to explain: save it without transparency")
    if share >= LEAST_VISIBLE:
        return ()
    return (f"{1 - share:.1%} of the picture is transparent, and the network saw white there",)
