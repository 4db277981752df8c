"""Measures as functions of tensors, and what their figures are worth."""
