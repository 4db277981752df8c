"""Saliency methods: functions (network, image, target, *, settings) -> Explanation; their registry; their mean."""

from spade_cli.interpretation.explanation import SaliencyMethod
from spade_cli.interpretation.saliency.attention_maps import gradient_rollout
from spade_cli.interpretation.saliency.class_activation import gradcam, guided_gradcam, hirescam, score_cam
from spade_cli.interpretation.saliency.deeplift import deeplift
from spade_cli.interpretation.saliency.gradients import (
    gradient_shap,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    saliency,
)
from spade_cli.interpretation.saliency.legrad import legrad
from spade_cli.interpretation.saliency.lrp import lrp
from spade_cli.interpretation.saliency.perturbation import lime, occlusion, rise
from spade_cli.interpretation.saliency.smoothing import SIGNED, SmoothedMethod

# Those of the paper in the order of its tables, then others; a method has its function's name.
METHODS: dict[str, SaliencyMethod] = {
    method.__name__: method
    for method in (
        saliency,
        input_x_gradient,
        deeplift,
        lrp,
        guided_backprop,
        guided_gradcam,
        lime,
        occlusion,
        integrated_gradients,
        gradient_shap,
        gradcam,
        hirescam,
        score_cam,
        rise,
        gradient_rollout,
        legrad,
    )
}
PAPER_METHODS = tuple(METHODS)[:10]
# Names that people look for -> the method that it is here. SmoothGrad is the gradient, averaged over noisy copies.
OTHER_NAMES = {"smoothgrad": "saliency"}
