"""What the panel says, from facts alone: buttons, rows, verdicts, choices. No Qt."""
