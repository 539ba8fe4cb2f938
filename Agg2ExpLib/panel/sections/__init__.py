"""The sections of the panel: widgets, what they show, and signals of what was pressed."""
