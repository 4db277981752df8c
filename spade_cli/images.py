"""A path to an image: file -> uint8 tensor (3, H, W), or one line that says why not."""

import stat
import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.paths import expanded

# Formats that Pillow decodes by itself; others would start helper programs (EPS) or are no photographs.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
MIN_SIDE = 16  # at 224 px each pixel of a smaller picture is a block of 14 px and more: a map of the resizing
MAX_PIXELS = 100_000_000  # 0.3 GB as RGB, and more than networks of 224 px can look at
MAX_ASPECT = 50  # the centre crop of a longer strip shows less than 2 % of it, and resizing it fills the memory
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error)


def load_image(path: str | Path) -> Tensor:
    """Read a picture as uint8 (3, H, W), upright, on white where transparent; a UserError says why it can't be."""
    path = expanded(path)
    _check_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns where this file refuses or converts
        try:
            opened = Image.open(path, formats=_formats())
        except Image.DecompressionBombError:
            raise UserError(_too_large(f"image={path}")) from None
        except Image.UnidentifiedImageError:
            raise UserError(
                f"image={path}: no picture that can be read (PNG, JPEG, WebP, TIFF, BMP are); save it as PNG"
            ) from None
        except DAMAGE as error:
            raise UserError(_damaged(f"image={path}", error)) from None
        with opened as picture:
            return _convert(picture, f"image={path}")


def as_image(image: "str | Path | Image.Image | Tensor | np.ndarray") -> Tensor:
    """A path, a Pillow image, a uint8 tensor (3, H, W) or a uint8 array (H, W, 3) as uint8 (3, H, W)."""
    if isinstance(image, str | Path):
        return load_image(image)
    if isinstance(image, Image.Image):
        return _convert(image, "image")
    pixels = (
        torch.from_numpy(image.copy()).movedim(-1, 0) if isinstance(image, np.ndarray) and image.ndim == 3 else image
    )
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[0] != 3:
        found = f"{type(image).__name__} {getattr(image, 'dtype', '')} {tuple(getattr(image, 'shape', ()))}"
        raise UserError(
            f"image: {found} is not an image: give a path, a Pillow image, a uint8 tensor (3, H, W) "
            "or a uint8 array (H, W, 3)"
        )
    _check_size(pixels.shape[2], pixels.shape[1], "image")
    return pixels.contiguous()


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"image={path} is a folder: give the path of one picture")
        if not stat.S_ISREG(mode):
            raise UserError(f"image={path} is no ordinary file: give the path of a picture")
        with path.open("rb") as file:
            if not file.read(1):
                raise UserError(f"image={path} is empty (0 bytes): give another picture")
    except FileNotFoundError:
        raise UserError(f"image={path}: no such file; check the path, which starts in {Path.cwd()}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise UserError(
            f"image={path} cannot be read ({getattr(error, 'strerror', None) or error}): "
            "check the path and its permissions"
        ) from None


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(width: int, height: int, asked: str) -> None:
    """Looks at the header only: nothing is decoded yet."""
    if width * height > MAX_PIXELS:
        raise UserError(_too_large(f"{asked} ({width} x {height})"))
    if min(width, height) < MIN_SIDE:
        raise UserError(
            f"{asked} is {width} x {height} pixels: too small to explain; give one of at least {MIN_SIDE} x {MIN_SIDE}"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UserError(f"{asked} is {width} x {height} pixels: a strip longer than {MAX_ASPECT} to 1; crop it")


def _too_large(found: str) -> str:
    limit = f"more than {MAX_PIXELS // 1_000_000} million"
    return f"{found} has {limit} pixels; make it smaller, networks look at a few hundred pixels a side"


def _damaged(asked: str, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{asked} is truncated or damaged ({reason}); get the picture again"


def _convert(picture: Image.Image, asked: str) -> Tensor:
    # A camera's MPO holds previews behind the picture; everything else with frames is a film or a document.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise UserError(f"{asked} has {frames} frames: save the one to explain as a picture of its own")
    _check_size(*picture.size, asked)
    try:
        picture.load()
        picture = ImageOps.exif_transpose(picture)
        pixels = np.array(_rgb(picture, asked))  # (H, W, 3)
    except DAMAGE as error:
        raise UserError(_damaged(asked, error)) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # (3, H, W)


def _rgb(picture: Image.Image, asked: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip them at 255
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise UserError(f"{asked} has 32 bits a pixel: save it with 8 or 16")
        if isinstance(picture.info.get("transparency"), int):  # PNG's one grey that stands for nothing
            grey = np.where(grey == picture.info["transparency"], 65535, grey)
        return Image.fromarray((grey / 257).round().astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise UserError(
            f"{asked} holds floating-point numbers, whose white is not known: save it with 8 or 16 bits a pixel"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")
