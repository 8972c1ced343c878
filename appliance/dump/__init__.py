"""The dump engine: stream format, scan, phases, levels and restore."""
