"""AMP4EC (Zhang, Guo, Tan, Jiang, arXiv 2504.00407): monitor, cost, partitioner and scheduler as pure functions.

Where the paper is silent, or its text and its authors' code do what cannot be meant, both are here: `paper` is theirs,
`physical` is right. Every figure says which it is.
"""
