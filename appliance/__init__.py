"""The gateway: everything that an operator or a backup application talks to."""
