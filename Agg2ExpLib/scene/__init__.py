"""An Explanation as nodes of a MRML scene: in the desktop Slicer, in a script, or in the real Slicer core without a desktop.

Needs ``slicer`` and ``vtk`` (PyPI: ``slicer-core``; inside 3D Slicer they are there) and nothing of Qt or torch::

    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib import scene

    shown = scene.show_explanation(Explanation.load(folder), slicer.mrmlScene)   # CT, segments, table, folder
    shown.show_overlay("heart", "magnitude", percentile=95, opacity=0.6)         # "signed", or "off"
    shown.show_overlay("heart", masked_segments=["heart", "aorta"])              # only inside these
    shown.colour_segments("heart", "enrichment")                                 # None: the structures' own colours
    chart = shown.show_chart("heart", "mass")                                    # vtkMRMLPlotChartNode
    shown.show_surface("heart"); shown.show_volume_rendering("heart"); shown.show_graph("heart")
    shown.go_to_strongest("heart")                                               # RAS; moves the slice views
    shown.table_node, shown.ct_node, shown.segmentation_node, shown.regions_node

Every ``show_`` method takes ``visible=False`` to hide again. Everything is idempotent: nodes are found by their attributes
(``Agg2Exp.Explanation`` and ``Agg2Exp.Role``), updated when they are there and added when they are not, so an explanation
that is shown twice, or that comes back with a saved scene, has each node once. ::

    scene.find(slicer.mrmlScene, explanation)   # the SceneExplanation that is there already, or None
    scene.saved_in(slicer.mrmlScene)            # what a loaded scene holds, also when the folders are gone
    scene.table_from_node(node)                 # an ImportanceTable again
    scene.new_scene()                           # an empty vtkMRMLScene outside of Slicer
"""

from __future__ import annotations

from Agg2ExpLib.scene.nodes import identity
from Agg2ExpLib.scene.saved import SavedExplanation, saved_in
from Agg2ExpLib.scene.showing import SceneExplanation, find, show_explanation
from Agg2ExpLib.scene.tables import table_from_node
from Agg2ExpLib.scene.views import new_scene

__all__ = [
    "SavedExplanation",
    "SceneExplanation",
    "find",
    "identity",
    "new_scene",
    "saved_in",
    "show_explanation",
    "table_from_node",
]
