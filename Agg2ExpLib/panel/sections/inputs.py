"""Inputs: the CT, the model with its card, and a segmentation whose segments become extra regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
import slicer.util
from slicer.i18n import tr as _

from Agg2ExpLib.anatomy import structure
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.models import bundled_models, known_models
from Agg2ExpLib.models.card import ModelCard
from Agg2ExpLib.models.listing import card_of
from Agg2ExpLib.panel.compute.background import Background
from Agg2ExpLib.panel.nodes import is_overlay
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.user_settings import UserSettings

_READABLE = "*.safetensors *.pt *.pth *.ckpt *.bin *.zip metadata.json plans.json"


class InputsSection:
    """The first section.

    Attributes
    ----------
    changed : Signal
        Without values: another model was chosen.
    """

    def __init__(self, ui: Any, settings: UserSettings) -> None:
        self.changed = Signal()
        self._settings = settings
        self._cards: dict[str, ModelCard | None] = {}
        self._digests: dict[str, str] = {}
        self.frame = ui.inputsCollapsibleButton
        self.volume, self.regions = ui.inputVolumeSelector, ui.extraRegionsSelector
        self.model, self.add, self.info = ui.modelComboBox, ui.addModelButton, ui.modelCardButton
        self.card_text = ui.modelCardLabel
        self.card_text.setVisible(False)
        self.refill_models()
        self.add.clicked.connect(lambda *_: self.ask_for_model())
        self.info.clicked.connect(lambda *_: self.show_card())
        self.model.currentIndexChanged.connect(self._on_model)

    @property
    def model_source(self) -> str:
        """Name or path of the chosen model."""
        return str(widgets.chosen(self.model) or "")

    def card(self) -> ModelCard | None:
        """Return the chosen model's card; ``None`` for a bare checkpoint or an unreadable folder."""
        source = self.model_source
        if source not in self._cards:
            self._cards[source] = card_of(source)
        return self._cards[source]

    def ct_node(self) -> Any:
        """Return the chosen CT; ``None`` when nothing, or an overlay of ours, is chosen."""
        node = self.volume.currentNode()
        return None if node is None or is_overlay(node) else node

    def hide_overlays(self) -> None:
        """Keep the overlays, which are volumes too, out of the list of CTs."""
        hidden = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_overlay(node)]
        self.volume.sortFilterProxyModel().hiddenNodeIDs = hidden

    def model_problem(self) -> str:
        """Return why the chosen model cannot be used; empty when it can as far as can be told without loading it."""
        source = self.model_source
        if not source:
            return _("No model is installed with this module; press Add and choose a model folder or file.")
        place = known_models().get(source, Path(source))
        if not place.exists():
            return _("The model {name} is no longer at {place}; add it again.").format(
                name=Path(source).name, place=place
            )
        return ""

    def refill_models(self, select: str = "") -> None:
        """List the bundled models, those of ``agg2exp model add``, and those that the user added here."""
        wanted = select or self.model_source
        self.model.blockSignals(True)
        self.model.clear()
        for name in bundled_models():
            card = card_of(name)
            title = card.name if card else name
            self.model.addItem(_("{model} (demo)").format(model=title) if "phantom" in name else title, name)
            self.model.setItemData(self.model.findData(name), card.description if card else title, qt.Qt.ToolTipRole)
        for name in known_models().keys() - bundled_models().keys():
            self.model.addItem(name, name)
        for path in self._settings.models():
            self.model.addItem(Path(path).name, path)
            self.model.setItemData(self.model.findData(path), path, qt.Qt.ToolTipRole)
        self.model.blockSignals(False)
        if wanted:
            widgets.choose(self.model, wanted)

    def choose_model(self, source: str) -> None:
        """Show a model as the chosen one, where it is listed."""
        widgets.choose(self.model, source)

    def ask_for_model(self) -> None:
        """Let the user name a model."""
        found = qt.QFileDialog.getOpenFileName(
            self.frame,
            _("Add a model: its weights or metadata.json"),
            "",
            _("Models ({patterns})").format(patterns=_READABLE),
        )
        path = found[0] if isinstance(found, tuple) else found
        if path:
            self.add_model(path)

    def add_model(self, path: str) -> None:
        """Remember a model and choose it; any file within a model folder stands for the folder."""
        source = _folder_of(Path(path))
        self._settings.add_model(source)
        self.refill_models(str(source))
        self._on_model()

    def show_card(self) -> None:
        """Show or hide the card under the fields."""
        if self.card_text.isVisible():
            self.card_text.setVisible(False)
            return
        self._write_card()
        self.card_text.setVisible(True)

    def _write_card(self) -> None:
        source = self.model_source
        self.card_text.setText(describe_card(self.card(), source, self._digests.get(source, _("being computed"))))
        if source and source not in self._digests:
            self._digests[source] = _("being computed")
            self._hashing = Background(lambda: _digest(source))
            self._hashing.finished.connect(lambda digest, error: self._on_digest(source, str(error or digest)))
            self._hashing.start()

    def _on_digest(self, source: str, digest: str) -> None:
        self._digests[source] = digest
        if source == self.model_source and self.card_text.isVisible():
            self._write_card()

    def _on_model(self, *_: Any) -> None:
        if self.card() is None and Path(self.model_source).is_file():
            # What is assumed of it must be read before it is used.
            self.card_text.setVisible(True)
        if self.card_text.isVisible():
            self._write_card()
        self.changed.emit()


def describe_card(card: ModelCard | None, source: str, digest: str) -> str:
    """Return what a card says, for people."""
    if card is None:
        return _(
            "{source}\nA checkpoint without a card: nothing in it says its structures, voxel size and window. Those of the paper are "
            "taken (1.5 mm, 96 voxels), and the results are wrong for a model that was trained otherwise: give it a model folder "
            "with metadata.json, or use agg2exp explain with --labels, --spacing and --window.\nsha256 {digest}"
        ).format(source=source, digest=digest)
    labels = ", ".join(structure(label).name for label in card.labels[1:])
    spacing = " × ".join(f"{step:g}" for step in card.spacing) + " mm" if card.spacing else _("the scan's own")
    lines = [
        _("{name}, version {version}").format(name=card.name, version=card.version),
        card.description,
        _("Licence: {licence}").format(licence=card.licence or _("not stated")),
        _("Spacing: {spacing}, window {window} voxels").format(
            spacing=spacing, window=" × ".join(map(str, card.window)) if card.window else _("the whole scan's")
        ),
        _("{count} structures: {names}").format(count=len(card.labels) - 1, names=labels),
        # Broken in the middle, because one word of 64 letters does not fit the panel.
        f"sha256 {digest[:32]} {digest[32:]}",
        *(_("Assumed: {line}").format(line=line) for line in card.assumptions),
        source,
    ]
    return "\n".join(line for line in lines if line)


def _digest(source: str) -> str:
    """Return the sha256 of a model's weights, or why there is none."""
    from Agg2ExpLib.models.bundle import weights_file
    from Agg2ExpLib.volume import file_sha256

    path = known_models().get(source, Path(source))
    try:
        return file_sha256(weights_file(path) if path.is_dir() else path)
    except InputError as error:
        return str(error)


def _folder_of(path: Path) -> Path:
    """Return the model folder that a file within it stands for: weights and card may lie in folders of their own."""
    if path.name == "plans.json":
        return path.parent
    if path.is_file():
        for folder in (path.parent.parent, path.parent):
            if (folder / "configs" / "metadata.json").is_file() or (folder / "metadata.json").is_file():
                return folder
    return path
