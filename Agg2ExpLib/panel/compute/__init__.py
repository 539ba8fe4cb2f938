"""The child process that computes: commands, tasks, packages. No network library is imported here."""
