"""The JSON API of the platform: items and complaints in, verdicts out. Its page is served at /api/v1/."""
