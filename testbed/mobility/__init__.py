"""Where a phone is attached over time, and what a handover cost it. Pure."""
