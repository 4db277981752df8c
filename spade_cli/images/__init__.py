"""Pictures: found, fetched, read, and made into augmented samples."""
