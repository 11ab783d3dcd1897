"""Which kernel the network runs in: a guest of our own, or the machine's. Nobody outside this room knows which."""
