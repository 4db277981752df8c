"""What can be done with any torch network: copy it, ask it, watch what it multiplies, read its scores."""
