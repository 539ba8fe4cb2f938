"""What happens when something in a section is chosen or pressed."""
