"""What the testbed costs and how exact it is, measured by `make bench`; never part of the tests."""
