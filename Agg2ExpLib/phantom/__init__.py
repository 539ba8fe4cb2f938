"""Thorax phantom: seeded, anatomically laid out chest CTs with the 17 labels of the method and optional findings.

Ground truth by construction: labels are the shapes that were painted. It is a test bed, not a model of disease.
"""

from Agg2ExpLib.phantom.findings import Finding
from Agg2ExpLib.phantom.generator import Phantom, make_phantom, write_phantoms

__all__ = ["Finding", "Phantom", "make_phantom", "write_phantoms"]
