"""What a generation keeps on the nodes: keys and values, and what becomes of them."""
