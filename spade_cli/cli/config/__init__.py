"""From the command line to settings: Hydra, quoting, checks, help and errors. Nothing below it knows Hydra."""
