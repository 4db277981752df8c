"""Every measure of an evaluation by name: what it says, which way is better, and how it is shown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """larger_is_better: None where no direction is better. share: shown in percent. of_maps: one value a method."""

    title: str
    larger_is_better: bool | None
    share: bool = True
    of_maps: bool = True


def _metrics_of_mask(what: str, mask: str) -> dict[str, Metric]:
    return {
        f"{what}_auc": Metric(f"pixelwise ROC AUC against {mask}", True),
        f"{what}_mass": Metric(f"share of the positive relevance on {mask}", True),
        f"{what}_rank": Metric(f"share of the K most relevant pixels on {mask}, K its size", True),
        f"{what}_pointing": Metric(f"most relevant pixel on or near {mask}", True),
    }


METRICS: dict[str, Metric] = {
    **_metrics_of_mask("trojan", "the Trojan's symbol"),
    "trojan_auc_signed": Metric("Trojan AUC of the signed channel sum", True),
    "trojan_auc_absolute": Metric("Trojan AUC of the absolute channel sum", True),
    "trojan_auc_best": Metric(
        "BEST OF TWO, as the paper reports it: Trojan AUC of the signed or the absolute channel sum, whichever has the "
        "higher mean, chosen by condition and method on these very images",
        True,
    ),
    **_metrics_of_mask("object", "the object"),
    "insertion": Metric("area under the insertion curve of the dense network", True),
    "deletion": Metric("area under the deletion curve of the dense network", False),
    "srg": Metric(
        "symmetric relevance gain: area under deletion, least relevant pixels first minus most relevant first", True
    ),
    "insertion_blurred": Metric("insertion into the blurred picture", True),
    "deletion_blurred": Metric("deletion that leaves the blurred picture", False),
    "srg_blurred": Metric("symmetric relevance gain with the blurred picture instead of the mean colour", True),
    "single_deletion": Metric(
        "rank correlation, over the cells of a grid, of a cell's relevance with what the logit loses without it",
        True,
        share=False,
    ),
    **_metrics_of_mask("mosaic", "the quarter of the explained picture"),
    "same_prediction": Metric("same prediction on the image", True, of_maps=False),
    "agreement": Metric("same prediction on held-out augmentations", True, of_maps=False),
    "kl": Metric("mean KL of dense to trace on held-out augmentations, nats", False, share=False, of_maps=False),
    "logit_change": Metric("change of the explained class's logit", None, share=False, of_maps=False),
    "probability": Metric("probability of the explained class", True, of_maps=False),
    "overlap_same": Metric("kept weights shared with the trace of an image of the same kind", None, of_maps=False),
    "overlap_other": Metric("kept weights shared with the trace of an image of another class", None, of_maps=False),
    "overlap_chance": Metric("kept weights that two random traces of this sparsity share", None, of_maps=False),
    "concept_chosen": Metric(
        "two-way choices: the class neuron's visualization shows the image's concept, not another of the class",
        True,
        of_maps=False,
    ),
    "symbol_chosen": Metric(
        "two-way choices, pictures with a Trojan: it shows the symbol, not a meaning of the class", True, of_maps=False
    ),
    "symbol_on_clean": Metric(
        "two-way choices, clean pictures: it shows the class's Trojan symbol, not the image's concept",
        False,
        of_maps=False,
    ),
    "class_seen": Metric("the network's probability of the class in the visualization", None, of_maps=False),
    "class_seen_by_twin": Metric("the twin's: the network before its Trojans were implanted", None, of_maps=False),
    "symbol_shown": Metric(
        "pictures with a Trojan: the network sees the class in the visualization, the twin a tenth of what it sees in "
        "the dense network's or less",
        True,
        of_maps=False,
    ),
    "class_shown": Metric("clean pictures: both see the class in the visualization", True, of_maps=False),
    "randomised_last": Metric("rank correlation with the map after the last layer is randomised", None, share=False),
    "randomised_half": Metric("rank correlation with the map after half of the layers are", None, share=False),
    "randomised_all": Metric("rank correlation with the map after all layers are", None, share=False),
}
