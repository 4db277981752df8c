"""Measures as functions of tensors, their names, and error bars."""
