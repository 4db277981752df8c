"""A network -> a rewritten copy that captum can explain, with the same outputs."""
