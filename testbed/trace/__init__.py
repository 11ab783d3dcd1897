"""Bandwidth and latency traces: what one is (series), how files hold it (formats, export), where they lie (lookup),
and a seeded radio model that makes them (radio)."""
