"""What blocks and parts cost, by arithmetic and measured."""
