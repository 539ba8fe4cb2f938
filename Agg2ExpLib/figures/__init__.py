"""Pictures of the tables: functions that return matplotlib figures, and a writer of PNG and SVG files.

The general functions take plain arrays and names, so that one case and a whole cohort are drawn alike; those of
:mod:`Agg2ExpLib.figures.case` take an Explanation. Nothing here needs torch.
"""

from Agg2ExpLib.figures.bars import class_bars, context_bars
from Agg2ExpLib.figures.boxes import box_plots
from Agg2ExpLib.figures.case import write_case_figures
from Agg2ExpLib.figures.graph import draw_graph, importance_graph, source_graph
from Agg2ExpLib.figures.heatmap import heat_map, heat_maps_side_by_side, importance_heat_map
from Agg2ExpLib.figures.measures import MEASURES, Measure, measure_of, table_matrix
from Agg2ExpLib.figures.slices import slice_panels
from Agg2ExpLib.figures.style import BACKGROUNDS
from Agg2ExpLib.figures.writing import write_figure

__all__ = [
    "BACKGROUNDS",
    "MEASURES",
    "Measure",
    "box_plots",
    "class_bars",
    "context_bars",
    "draw_graph",
    "heat_map",
    "heat_maps_side_by_side",
    "importance_graph",
    "importance_heat_map",
    "measure_of",
    "slice_panels",
    "source_graph",
    "table_matrix",
    "write_case_figures",
    "write_figure",
]
