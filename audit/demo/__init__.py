"""A made-up marketplace with made-up campaigns, all from a seed: what a first start shows."""
