"""Explanations of any network for one image: saliency maps and feature visualizations."""

from spade_cli.interpretation.channel_relevance import ChannelRelevance, follow_relevance
from spade_cli.interpretation.channels import Channel, check_channels, parse_channel
from spade_cli.interpretation.explanation import CannotExplain, Explanation, SaliencyMethod
from spade_cli.interpretation.own_methods import OwnMethod, OwnObjective, own_method, own_objective
from spade_cli.interpretation.rewrite.ask_question import ask_question
from spade_cli.interpretation.rewrite.explainable import Explainable, explainable
from spade_cli.interpretation.rewrite.feature_maps import check_cam_layer
from spade_cli.interpretation.saliency import (
    METHODS,
    OTHER_NAMES,
    PAPER_METHODS,
    SIGNED,
    SmoothedMethod,
    deeplift,
    gradcam,
    gradient_rollout,
    gradient_shap,
    guided_backprop,
    guided_gradcam,
    hirescam,
    input_x_gradient,
    integrated_gradients,
    legrad,
    lime,
    lrp,
    occlusion,
    rise,
    saliency,
    score_cam,
)
from spade_cli.interpretation.saliency.perturbation import check_window
from spade_cli.interpretation.visualization import VISUALIZERS, accentuate, visualize, visualize_with_lucent
from spade_cli.interpretation.visualization.blank import is_blank, why_blank
from spade_cli.interpretation.visualization.dense import visualize_dense
from spade_cli.interpretation.visualization.visualizer import Dense, Visualizer, bind_image, takes_image
