"""What outlives the process: tokens, and the changes to them that running sidecars follow."""
