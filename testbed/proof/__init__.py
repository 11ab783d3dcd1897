"""The optimum of a decision, sought with all the time it needs, where the planner's bound was not met in its own."""
