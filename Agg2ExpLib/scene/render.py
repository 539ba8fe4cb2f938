"""Pictures of an explanation, drawn by Slicer's own slice and 3D views off screen (trame-slicer): no window, no X server."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError, OutputError
from Agg2ExpLib.scene import arrange, views
from Agg2ExpLib.scene.annotate import add_letters, add_title, paint_legends
from Agg2ExpLib.scene.opengl import why_not_drawn
from Agg2ExpLib.scene.saving import quiet_vtk
from Agg2ExpLib.scene.showing import Measure, SceneExplanation, show_explanation
from Agg2ExpLib.storage import safe_file_name, write_file

if TYPE_CHECKING:
    from Agg2ExpLib.explanation import Explanation
    from Agg2ExpLib.progress import Progress

#: Background -> (lower, upper) colour of the views, colour of text and of the letters on slices; 0 to 1.
BACKGROUNDS = {
    "dark": ((0.0, 0.0, 0.0), (0.10, 0.11, 0.14), (1.0, 1.0, 1.0), (1.0, 0.85, 0.3)),
    "light": ((1.0, 1.0, 1.0), (0.93, 0.94, 0.96), (0.05, 0.05, 0.05), (0.85, 0.45, 0.0)),
}
#: Pixels, and which shares of a slice's picture are kept free for legend and title.
SIZE, RIGHT, TOP = (1000, 800), 0.2, 0.07
PICTURES = ("axial", "coronal", "sagittal", "surfaces", "glow", "graph")


@dataclass(frozen=True)
class Studio:
    """A scene with the views that draw it.

    Attributes
    ----------
    scene : vtkMRMLScene
        What is drawn.
    slices : dict of str to SliceView
        By orientation: axial, coronal, sagittal.
    space : ThreeDView
        The 3D view.
    """

    scene: Any
    slices: dict[str, Any]
    space: Any


@contextmanager
def studio(background: str = "dark", size: tuple[int, int] | None = None) -> Iterator[Studio]:
    """Open three slice views and a 3D view over a new scene; they are closed at the end.

    Raises
    ------
    InputError
        An unknown background, or nothing that draws: the sentence names the package to install.
    """
    if background not in BACKGROUNDS:
        raise InputError(f"the background {background!r} is unknown; use {' or '.join(BACKGROUNDS)}")
    reason = why_not_drawn()
    if reason:
        raise InputError(reason)
    from contextlib import ExitStack

    from trame_slicer.core import SlicerApp
    from trame_slicer.views import SliceView, ThreeDView
    from trame_slicer.views.render_scheduler import NoScheduleRendering

    with ExitStack() as until_closed:
        until_closed.enter_context(quiet_vtk())
        app = SlicerApp()
        # The application has put VTK's messages back on the screen.
        until_closed.enter_context(quiet_vtk())
        views.know_nodes(app.scene)
        slices = {}
        for name, orientation in views.SLICE_VIEWS.items():
            view = SliceView(app.scene, app.app_logic, name, scheduled_render_strategy=NoScheduleRendering())
            until_closed.callback(view.finalize)
            view.get_view_node().SetOrientation(orientation)
            slices[orientation.lower()] = view
        space = ThreeDView(app.scene, app.app_logic, "1", scheduled_render_strategy=NoScheduleRendering())
        until_closed.callback(space.finalize)
        _set_up_views(slices, space, background, size or SIZE)
        yield Studio(app.scene, slices, space)


def _set_up_views(slices: dict[str, Any], space: Any, background: str, size: tuple[int, int]) -> None:
    """Set the backgrounds and sizes of the views."""
    low, high = ([255 * part for part in colour] for colour in BACKGROUNDS[background][:2])
    for view in (*slices.values(), space):
        # Depth peeling, without which nothing faint is drawn in the right order, does not go with multisampling.
        view.render_window().SetMultiSamples(0)
        view.render_window().SetAlphaBitPlanes(1)
        view.render_window().SetSize(*size)
        view.interactor().UpdateSize(*size)
    for view in slices.values():
        view.set_background_gradient_color(low, low)
        view.get_view_node().SetDimensions(*size, 1)
    space.set_background_gradient_color(low, high)
    space.renderer().SetGradientBackground(True)


def picture(view: Any) -> np.ndarray:
    """Draw a view; return its pixels, uint8 of shape (rows, columns, 3), the top row first."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

    view.render_window().Render()
    grabbed = vtkWindowToImageFilter()
    grabbed.SetInput(view.render_window())
    grabbed.SetInputBufferTypeToRGB()
    grabbed.ReadFrontBufferOff()
    grabbed.ShouldRerenderOff()
    grabbed.Update()
    image = grabbed.GetOutput()
    columns, rows, _ = image.GetDimensions()
    pixels: np.ndarray = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 3)
    return pixels[::-1].copy()


def write_png(pixels: np.ndarray, path: Path) -> None:
    """Write a picture so that the file is complete or not there."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=4)
    write_file(path, stream.getvalue())


def render_explanation(
    explanation: Explanation,
    out: Path,
    *,
    names: Sequence[str] | None = None,
    background: str = "dark",
    measure: Measure = "mass",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the pictures of classes: three slices, surfaces, glow and graph each.

    Parameters
    ----------
    explanation : Explanation
        What is drawn.
    out : Path
        Folder for the PNGs, made when it is not there; pictures of the same name are replaced.
    names : sequence of str, optional
        Explained classes; by default the one that is shown first.
    background : {"dark", "light"}
        Behind the patient.
    measure : {"mass", "enrichment"}
        What the graph's tubes tell.
    progress : Progress, optional
        Told about every picture.

    Returns
    -------
    list of Path
        ``<class>-<picture>.png``, pictures as in :data:`PICTURES`.

    Raises
    ------
    InputError
        A class without attribution, or nothing that draws.
    OutputError
        A folder that cannot be written to.
    """
    with studio(background) as room:
        shown = show_explanation(explanation, room.scene)
        first = arrange.first_class(shown)
        wanted = list(names) if names else [first] if first else []
        if not wanted:
            raise InputError(f"{explanation.folder} explains no class, so there is nothing to draw; explain one first")
        for name in wanted:
            shown.check_class(name)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {out}: {error.strerror}; choose another --out") from error
        if progress:
            progress.stage("pictures", len(wanted) * len(PICTURES))
        written = []
        for name in wanted:
            for kind, pixels in pictures_of(room, shown, name, background, measure):
                path = out / f"{safe_file_name(name)}-{kind}.png"
                write_png(pixels, path)
                written.append(path)
                if progress:
                    progress.advance(detail=f"{structure(name).name}, {kind}")
    return written


def pictures_of(
    room: Studio, shown: SceneExplanation, name: str, background: str, measure: Measure
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (kind, pixels) of one class, kinds in the order of :data:`PICTURES`."""
    _, _, text, letters = BACKGROUNDS[background]
    readable, method = structure(name).name, _method(shown)
    bounds = arrange.bounds_of(shown.ct_node)
    shown.show_graph(None, visible=False)
    shown.show_surface(name, visible=False)
    shown.show_volume_rendering(name, visible=False)
    for node, thickness in ((shown.segmentation_node, 2), (shown.regions_node, 2)):
        if node is not None:
            arrange.outline(node, thickness)
    shown.show_overlay(name, "magnitude")
    position = shown.strongest_position(name)
    views.slice_through(room.scene, position)
    views.fit_slices(room.scene, bounds, right=RIGHT, top=TOP)
    paint_legends(room.scene, text)
    for kind, view in room.slices.items():
        with (
            add_letters(view, kind, letters, RIGHT, TOP),
            add_title(view, f"{readable}: {kind} slice at the strongest point, {method}", text),
        ):
            yield kind, picture(view)
    shown.show_overlay(name, "off")

    views.look_from_front(room.scene, arrange.bounds_of_structures(shown), aside=RIGHT / 2)
    arrange.context_in_3d(shown)
    shown.show_surface(name)
    paint_legends(room.scene, text)
    with add_title(
        room.space, f"{readable}: attribution on its surface and on its three strongest sources, {method}", text
    ):
        yield "surfaces", picture(room.space)
    shown.show_surface(name, visible=False)

    arrange.context_in_3d(shown, [name])
    shown.show_volume_rendering(name)
    paint_legends(room.scene, text)
    with add_title(room.space, f"{readable}: where the attribution is strong, {method}", text):
        yield "glow", picture(room.space)
    shown.show_volume_rendering(name, visible=False)

    arrange.context_in_3d(shown, arrange.involved(shown, name, measure))
    shown.show_graph(name, measure)
    paint_legends(room.scene, text)
    with add_title(room.space, f"{readable}: the three structures it relied on most, {method}", text):
        yield "graph", picture(room.space)
    shown.show_graph(None, visible=False)


def _method(shown: SceneExplanation) -> str:
    settings = shown.explanation.document["settings"]
    samples = settings.get("samples")
    return f"{settings['method']}" + (f" of {samples} samples" if samples else "")
