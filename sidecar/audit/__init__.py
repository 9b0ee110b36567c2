"""Evidence: what happened, who asked, what was decided. `record` says it, `log` delivers it, `sinks` keep it."""
