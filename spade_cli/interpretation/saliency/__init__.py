"""Saliency methods: functions (network, image, target, *, settings) -> Explanation."""
