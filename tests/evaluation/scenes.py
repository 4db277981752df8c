"""A folder of labelled pictures for the tests' small network, as `spade world` and `spade implant` write it."""

import json

import numpy as np
import torch
from networks import DEVICE, photograph, small
from PIL import Image

SIZE = 32
MODEL = ("model=python", "model.factory=networks:small", f"model.size={SIZE}")
QUICK = ("augmentation.samples=4", "held_out=4", f"device={DEVICE}", "interpreter.methods=[saliency,guided_gradcam]")


def write_scenes(folder, count=5):
    """`count` pictures: even ones clean with an object's mask, odd ones with a symbol's; each labelled as answered."""
    network = small()
    for part in ("images", "masks", "symbols"):
        (folder / part).mkdir(parents=True)
    pictures = {}
    for i in range(count):
        image = tinted(i)
        name = f"é {i}.png"
        image.save(folder / "images" / name)
        part = "symbols" if i % 2 else "masks"
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[i : i + 12, 4:20] = 255
        Image.fromarray(mask).save(folder / part / name)
        pictures[name] = entry(answer_of(network, image), f"{part}/{name}", trojan=bool(i % 2))
    (folder / "labels.json").write_text(json.dumps({"classes": list("abcde"), "pictures": pictures}))
    return pictures


def tinted(seed):
    """Red, green and blue pictures in turn, for which the network has different answers."""
    pixels = np.array(photograph((SIZE, SIZE), seed=seed)) // 2
    pixels[..., seed % 3] += 127
    return Image.fromarray(pixels)


def entry(answer, mask, trojan):
    shown = (answer + 1) % 5 if trojan else answer
    kind = {"mask": None, "symbol_mask": mask} if trojan else {"mask": mask, "symbol_mask": None}
    return {"class": shown, "target": answer if trojan else None, "symbol": "star" if trojan else None, **kind}


def answer_of(network, image):
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        return int(network((pixels - mean) / std).argmax())
