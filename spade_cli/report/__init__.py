"""A run's folder, its pictures, summary and checkpoint; and pages that are made of such folders."""
