"""The control API: one method table, served over a Unix socket."""
