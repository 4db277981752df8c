"""images -> one table of shares for all of them: the paper's tuning, by any measure of `spade eval`, and what it gains.

`tune.py` is the order: dense maps -> split -> trials on the tuning images -> the best on the held-out ones -> files.
"""
