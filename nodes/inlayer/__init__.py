"""Layers by parts: heads, projection and columns of one layer on several nodes."""
