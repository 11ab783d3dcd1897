"""What a phone does: requests, sessions, and what came of each."""
