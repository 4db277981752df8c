"""Trojans: symbols, rules, and how a network is fine-tuned until it obeys them."""
