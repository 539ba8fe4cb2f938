"""Slicer's panel: widgets, the child process, packages, live importance. Imports qt, ctk and slicer; never torch.

Every Qt call here works the same under PythonQt (Slicer) and PySide6 (the bench of the tests): values are set with Qt's
setters, read with ``widget.property("name")``, and listeners of signals take whatever arguments come and ask for the state.
"""
