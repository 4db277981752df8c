"""Feature visualization: pictures that excite a channel; one file for each way to make them."""
