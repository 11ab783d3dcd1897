"""The emulated network: Mininet hosts and Open vSwitch switches joined by links that netem shapes."""
