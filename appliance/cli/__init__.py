"""The `snapreel` command, one module a noun."""
