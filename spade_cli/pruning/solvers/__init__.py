"""Solvers: functions (weight, hessian, sparsity, block) -> weight, mathematics only."""
