"""What is made outside before a run: weights, inputs, right answers, graphs."""
