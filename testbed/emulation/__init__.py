"""The emulation at run time: the director that starts everything inside a sandbox, and the roles of its processes."""
