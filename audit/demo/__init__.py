"""A made-up marketplace with made-up campaigns, made from a seed: what a first start shows and what tests can rely on."""
