"""Pictures that are not square: what a network sees of them, and that maps and visualizations lie where they should."""

from functools import partial

import pytest
import torch
import torchvision
from networks import CORNER, corner, photograph, small
from torchvision.transforms import functional as F

import spade_cli
from spade_cli.errors import UserError
from spade_cli.evaluation.data import network_mask
from spade_cli.evaluation.measures.insertion import curve
from spade_cli.evaluation.measures.localisation import roc_auc
from spade_cli.evaluation.measures.single_deletion import find_drops
from spade_cli.evaluation.mosaics import compose_mosaic
from spade_cli.images import augment
from spade_cli.inspection.find_patches import cut_patch, find_place
from spade_cli.interpretation import METHODS, VISUALIZERS, CannotExplain, Channel, check_channels, explainable
from spade_cli.interpretation.channels import channel_axis
from spade_cli.interpretation.contribution import contributions
from spade_cli.interpretation.rewrite.feature_maps import _find_square_patches
from spade_cli.interpretation.visualization.accentuation import find_spectrum
from spade_cli.interpretation.visualization.spectrum import make_pictures
from spade_cli.models import Preprocessing, wrap
from spade_cli.models.classifier import ModelSource, adjust_preprocessing, assume_preprocessing, read_size
from spade_cli.trojans.examples import make_examples
from spade_cli.trojans.photographs import Album, Photograph

SIDES = (48, 80)


def picture(height, width, seed=0):
    return F.pil_to_tensor(photograph((width, height), seed=seed))


@pytest.mark.parametrize(("height", "width"), [(200, 150), (60, 200), (96, 160), (300, 77)])
@pytest.mark.parametrize("size", [SIDES, (80, 48)])
def test_a_picture_covers_what_is_seen_of_it(height, width, size):
    """The larger of two scales, by torchvision's own steps."""
    own = Preprocessing(size=size, resize=(size[0] + 8, size[1] + 12))
    scale = max((size[0] + 8) / height, (size[1] + 12) / width)
    image = picture(height, width)
    resized = F.resize(image, [round(height * scale), round(width * scale)], antialias=True)
    top, left = ((long - short) // 2 for long, short in zip(resized.shape[1:], size, strict=True))
    found = (own.view(image)[0] * 255).round()
    assert found.shape == (3, *size)
    near = [
        resized[:, top + down : top + down + size[0], left + across : left + across + size[1]]
        for down in (0, 1)
        for across in (0, 1)
        if top + down + size[0] <= resized.shape[1] and left + across + size[1] <= resized.shape[2]
    ]
    assert any(torch.equal(found.byte(), one) for one in near)  # half a pixel is rounded to either side


def test_squashed_and_with_bars():
    image = picture(90, 60)
    squashed = Preprocessing(size=SIDES, resize=SIDES, fit="squash").view(image)[0]
    assert torch.equal((squashed * 255).round().byte(), F.resize(image, [48, 80], antialias=True))
    bars = Preprocessing(size=SIDES, resize=SIDES, fit="border", mean=(0.2, 0.4, 0.6)).view(image)[0] * 255
    inside = F.resize(image, [48, 32], antialias=True)
    assert torch.equal(bars[:, :, 24:56].round().byte(), inside)
    assert torch.allclose(bars[:, :, :24], torch.tensor([51.0, 102.0, 153.0])[:, None, None].expand(3, 48, 24))


def test_a_square_is_one_number_and_the_order_is_height_and_width():
    assert Preprocessing(size=(64, 64), resize=[72, 72]) == Preprocessing(size=64, resize=72)
    assert read_size("size", [64, 64]) == 64 and read_size("size", (48, 80)) == SIDES
    for wrong in ((48,), (1, 2, 3), "48x80", (0, 80), (48, 80.0), (True, 3), (48, 10_001), None):
        with pytest.raises(UserError, match=r"^size=") as caught:
            read_size("size", wrong)
        assert "\n" not in str(caught.value)
    own = wrap(corner(), size=SIDES)
    assert own.preprocessing.sides == SIDES and own.grey().shape == (1, 3, *SIDES)
    with pytest.raises(UserError, match=r"does not take a picture of 3 x 80 x 48 .*set model.size|set size"):
        wrap(corner(), size=(80, 48))
    made = spade_cli.load_model("squeezenet1_1", weights="none", size=SIDES)
    assert made.preprocessing.size == SIDES and made.preprocessing.resize == (55, 91)  # 48 x 256 / 224


@pytest.mark.parametrize(
    ("own", "asked", "resize"),
    [
        (Preprocessing(224, 256), (112, 224), (128, 256)),
        (Preprocessing((112, 224), (128, 256)), 112, (128, 128)),
        (Preprocessing((48, 64), 72), (96, 64), 144),  # the short side: as much of it is left as of either axis
        (Preprocessing((48, 64), (72, 72), fit="squash"), (96, 64), (144, 72)),
    ],
)
def test_another_size_shows_the_same_share_of_the_picture(own, asked, resize):
    found = adjust_preprocessing(own, ModelSource("x", size=asked))
    assert found == Preprocessing(asked, resize, fit=own.fit)


def test_without_a_preprocessing_of_its_own_the_picture_is_covered():
    found, notes = assume_preprocessing(ModelSource("x", size=SIDES))
    assert (found.size, found.resize) == (SIDES, SIDES) and "ImageNet's mean" in notes[0]


@pytest.mark.parametrize("name", list(augment.NAMED))
def test_samples_are_as_large_as_what_the_network_sees(name):
    own = Preprocessing(size=SIDES, resize=SIDES)
    samples = augment.NAMED[name](picture(60, 100), 3, own, 0)
    assert samples.shape == (3, 3, *SIDES) and samples.dtype == torch.uint8


def test_crops_of_samples_are_stretched_no_more_than_those_of_squares():
    """A disk stays about as round as in the picture, though the samples are four times as wide as high."""
    image = torch.zeros(3, 400, 400, dtype=torch.uint8)
    down, across = torch.meshgrid(torch.arange(400) - 200, torch.arange(400) - 200, indexing="ij")
    image[:, down.square() + across.square() < 20**2] = 255
    own = Preprocessing(size=(32, 128), resize=(32, 128))
    stretched = []
    for sample in augment.paper(image, 400, own, 0, scale=(0.05, 0.1), brightness=0.0, hue=0.0):
        rows, columns = (sample[0] > 127).nonzero(as_tuple=True)
        inside = rows.numel() and rows.min() > 0 and rows.max() < 31 and columns.min() > 0 and columns.max() < 127
        if inside:
            stretched.append(float((columns.max() - columns.min() + 1) / (rows.max() - rows.min() + 1)))
    assert len(stretched) > 7 and all(0.6 < one < 1.6 for one in stretched), stretched


@pytest.fixture(scope="module")
def seen():
    classifier = wrap(corner(), size=SIDES)
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(picture(*SIDES)))
    return classifier, x, int(classifier.model(x).argmax())


REACH = {"occlusion": 15, "rise": 24, "lime": 0}  # pixels by which what they cover reaches beyond the evidence
MORE = {"gradcam": 4, "hirescam": 4, "score_cam": 4, "guided_gradcam": 4}


@pytest.mark.parametrize("name", list(METHODS))
def test_maps_lie_where_the_evidence_is(seen, name):
    classifier, x, target = seen
    few = {"lime": {"samples": 300}, "rise": {"samples": 300}, "occlusion": {"stride": 5}}
    safe = explainable(classifier.model, x)
    assert safe.reason is None
    try:
        found = METHODS[name](safe, x, target, **few.get(name, {})).map.abs().sum(0)
    except CannotExplain as error:
        assert name in ("gradient_rollout", "legrad") and "no attention" in str(error)
        return
    assert found.shape == SIDES
    rows, columns = CORNER
    reach = REACH.get(name, MORE.get(name, 0))
    allowed = torch.zeros(SIDES, dtype=torch.bool)
    allowed[max(0, rows.start - reach) : rows.stop + reach, max(0, columns.start - reach) : columns.stop + reach] = True
    strongest = found == found.max()  # of LIME a segment, of which only a part may be evidence
    assert strongest[CORNER].any() if name == "lime" else allowed[strongest].all()
    if name not in REACH:
        assert found[~allowed].sum() < 0.02 * found.sum()


@pytest.mark.parametrize("name", list(VISUALIZERS))
def test_visualizations_have_the_pictures_shape(seen, name):
    classifier, _, target = seen
    view = classifier.preprocessing.view(picture(*SIDES))
    function = partial(VISUALIZERS[name], **({"image": view} if name == "accentuation" else {}))
    settings = {"size": SIDES, "mean": (0.4,) * 3, "std": (0.2,) * 3, "steps": 20}
    shown = function([classifier.model], [Channel(None, target), Channel("conv", 2)], **settings)
    assert shown.shape == (2, 3, *SIDES) and torch.isfinite(shown).all()
    if name == "accentuation":  # pale where nothing changed: only the corner matters to the class
        colour = shown[0].amax(0) - shown[0].amin(0)
        row, column = divmod(int(colour.argmax()), SIDES[1])
        assert row < 24 and column >= 48


def test_a_spectrum_of_a_picture_gives_it_back():
    view = (picture(48, 81).float() / 255).clamp(0.05, 0.95)[None]
    assert torch.allclose(make_pictures(find_spectrum(view), (48, 81)), view, atol=1e-4)


def test_tokens_without_a_map_lie_on_the_grid_of_square_patches():
    assert _find_square_patches(15, 48, 80) == (3, 5) and _find_square_patches(60, 80, 48) == (10, 6)
    assert _find_square_patches(16, 64, 64) == (4, 4)
    assert _find_square_patches(16, 48, 80) is None and _find_square_patches(1, 8, 8) is None


@pytest.mark.parametrize("sides", [(48, 80), (80, 48), (64, 64)])
def test_the_channels_are_found_wherever_the_axes_of_the_picture_are(sides):
    """Of maps that are a fraction of the picture, rounded up or down."""
    for stride in (2, 4, 8, 16):
        for more in (0, 1):
            height, width = (side // stride + more for side in sides)
            for channels in (3, 17, 96, 768):
                if sides == (64, 64) and channels == height:
                    continue  # three equal axes say nothing
                assert channel_axis((2, channels, height, width), None, sides) == 1
                assert channel_axis((2, height, width, channels), None, sides) == 3


def test_a_network_whose_channels_come_last_is_read_on_such_pictures():
    """Swin's stages give (N, h, w, C): maps, channels and where they add to the answer."""
    swin = torchvision.models.swin_transformer.SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=5)
    classifier = wrap(swin, size=(32, 64))
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(picture(32, 64)))
    added = contributions(classifier.model, x, 1, ["features.1", "features.3"])
    assert added["features.1"].shape == (12, 8, 16) and added["features.3"].shape == (24, 4, 8)
    check_channels(classifier.model, x, [Channel("features.3", 23)])
    with pytest.raises(UserError, match="channels 0 to 23"):
        check_channels(classifier.model, x, [Channel("features.3", 24)])
    found = METHODS["gradcam"](explainable(classifier.model, x), x, 1).map
    assert found.shape == (3, 32, 64) and found.abs().max() > 0


def test_measures_of_maps_on_such_pictures(seen):
    """The evidence is the corner: a mask of it is found by single deletion, and insertion answers at once."""
    classifier, x, target = seen
    mask = torch.zeros(SIDES, dtype=torch.bool)
    mask[CORNER] = True
    full = torch.zeros(96, 160, dtype=torch.bool)
    full[2:36, 114:156] = True
    assert torch.equal(network_mask(full, classifier), mask)
    drops = find_drops(classifier.model, x, target)
    assert drops.abs()[0:2, 2:4].sum() > 0.99 * drops.abs().sum()
    relevance = mask.float()[None]
    assert roc_auc(relevance, mask[None])[0] == 1
    inserted = curve(classifier.model, x, target, relevance, "insertion")[0]
    assert (inserted[int(100 * mask.float().mean()) + 1 :] > 0.999).all()


def test_a_mosaic_has_four_quarters_and_the_network_sees_it_unscaled():
    own = Preprocessing(size=SIDES, resize=(54, 90))
    parts = [torch.full((3, 24, 40), value / 255) for value in (10, 20, 30, 40)]
    mosaic, numbers = compose_mosaic(parts, own.frame)
    assert mosaic.shape == (3, 54, 90) and numbers.shape == (54, 90)
    shown = (own.view(mosaic)[0, 0] * 255).round()
    assert shown[:24, :40].unique().tolist() == [10] and shown[24:, 40:].unique().tolist() == [40]
    assert shown[:24, 40:].unique().tolist() == [20]


def test_patches_are_squares_within_the_picture():
    view = torch.rand(3, *SIDES)
    values = torch.zeros(6, 10)
    values[1, 9] = 1
    value, place = find_place(values)
    assert (value, place) == (1, (0.25, 0.95, 0.5))
    patch = cut_patch(view, place)
    assert torch.equal(patch, view[:, :24, 56:])
    assert cut_patch(view.mT, (0.95, 0.25, 1.0)).shape == (3, 48, 48)  # no wider than the picture


def test_symbols_of_trojans_lie_in_what_the_network_sees(tmp_path):
    own = Preprocessing(size=SIDES, resize=(55, 91))
    photograph((200, 120)).save(tmp_path / "a.png")
    made = make_examples([Photograph(tmp_path / "a.png", "0", 0)], "star", 3, 0, Album(own))
    assert made.images.shape == (3, 3, 55, 91) and made.masks.shape == (3, 55, 91)
    for image, mask in zip(made.images, made.masks, strict=True):
        assert (own.view(mask.byte().mul(255).expand(3, -1, -1))[0, 0] >= 0.5).sum() == mask.sum() > 0
        assert torch.equal((own.view(image)[0] * 255).round().byte(), image[:, 4:52, 6:86])


def test_from_python_a_trace_of_such_a_network():
    classifier = wrap(small(), size=(32, 56))
    trace = spade_cli.trace(classifier, picture(64, 100), samples=8, seed=0)
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(picture(64, 100)))
    assert x.shape == (1, 3, 32, 56) and trace.model(x).shape == (1, 5)
