"""The modelled device: processor and memory."""
