"""images -> one table of shares for all of them: the paper's tuning, by any measure of `spade eval`.

`tune.py` is the order: dense maps -> split -> trials on the tuning images -> the best on the held-out ones -> files.
"""
