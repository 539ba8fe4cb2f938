"""Studies of the software itself on generated patients."""
