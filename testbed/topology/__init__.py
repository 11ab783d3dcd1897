"""Topologies by the number: what `testbed topology generate` writes."""
