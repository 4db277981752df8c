"""DeepLift's rules for what captum has none for."""
