"""What crosses between hosts, and how: frames, streams, encryption, shipments."""
