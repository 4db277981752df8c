"""Pruners: functions (weight, hessian, sparsity, block) -> weight, mathematics only."""
