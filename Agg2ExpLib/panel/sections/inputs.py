"""Inputs: the scan, one volume a channel; the model with its card; a segmentation whose segments become extra regions."""

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
from Agg2ExpLib.models.library import Library
from Agg2ExpLib.models.listing import card_of
from Agg2ExpLib.models.registry import formats
from Agg2ExpLib.panel.compute.background import Background
from Agg2ExpLib.panel.nodes import is_overlay, same_grid
from Agg2ExpLib.panel.sections import widgets
from Agg2ExpLib.panel.sections.model_form import ModelForm
from Agg2ExpLib.panel.signals import Signal
from Agg2ExpLib.panel.user_settings import UserSettings

_READABLE = "*.safetensors *.pt *.pth *.ckpt *.bin *.ts *.pt2 *.onnx *.zip metadata.json plans.json"

#: Volumes beside the first that there are lists for.
_OTHERS = (2, 3, 4)


class InputsSection:
    """The first section.

    Attributes
    ----------
    changed : Signal
        Without values: another model was chosen.
    form : ModelForm
        Where a model is added.
    """

    def __init__(self, ui: Any, settings: UserSettings) -> None:
        self.changed = Signal()
        self._settings = settings
        self._cards: dict[str, ModelCard | None] = {}
        self._digests: dict[str, str] = {}
        self.frame = ui.inputsCollapsibleButton
        self.volume, self.regions = ui.inputVolumeSelector, ui.extraRegionsSelector
        self.volumes = (self.volume, *(getattr(ui, f"inputVolume{number}Selector") for number in _OTHERS))
        self._volume_labels = (ui.inputVolumeLabel, *(getattr(ui, f"inputVolume{number}Label") for number in _OTHERS))
        self.model, self.add, self.info = ui.modelComboBox, ui.addModelButton, ui.modelCardButton
        self.card_text = ui.modelCardLabel
        self.card_text.setVisible(False)
        self.form = ModelForm(ui)
        self.refill_models()
        self.show_channels()
        self.add.clicked.connect(lambda *_: self._on_add())
        ui.browseModelButton.clicked.connect(lambda *_: self.ask_for_model())
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

    def channels(self) -> tuple[str, ...]:
        """Return what the chosen model takes, one volume each, as it names them."""
        card = self.card()
        return card.channels if card else ("CT",)

    def show_channels(self) -> None:
        """Show a list of volumes for each channel of the chosen model, named as the model names it."""
        names = self.channels()
        for number, (box, label) in enumerate(zip(self.volumes, self._volume_labels, strict=True)):
            for widget in (box, label):
                widget.setVisible(number < len(names))
            if number < len(names):
                label.setText(_("{channel} volume").format(channel=names[number]))
                box.setAccessibleName(str(widgets.read(label, "text")))

    def scan_nodes(self, first: Any = None) -> tuple[Any, ...]:
        """Return the chosen volume of each channel, in the model's order; ``first`` in place of the first."""
        others = [box.currentNode() for box in self.volumes[1 : len(self.channels())]]
        return (self.ct_node() if first is None else first, *others)

    def volumes_problem(self) -> str:
        """Return which channel is missing, given twice or on another grid; empty when none is."""
        names, nodes, card = self.channels(), self.scan_nodes(), self.card()
        model = card.name if card else ""
        if len(names) > len(self.volumes):
            return _(
                "{model} takes {count} volumes, and the panel has fields for {fields}; use agg2exp explain."
            ).format(model=model, count=len(names), fields=len(self.volumes))
        for number, (name, node) in enumerate(zip(names, nodes, strict=True)):
            if number == 0 or nodes[0] is None:
                continue
            if node is None or is_overlay(node):
                return _("{model} takes {channels}; choose the {channel} volume under Inputs too.").format(
                    model=model, channels=", ".join(names), channel=name
                )
            words = {"node": node.GetName(), "channel": name, "first": names[0], "reference": nodes[0].GetName()}
            if node in nodes[:number]:
                words["first"] = names[nodes.index(node)]
                return _("{node} is chosen as {first} and as {channel}; choose one volume for each.").format(**words)
            if not same_grid(nodes[0], node):
                return _(
                    "{channel} ({node}) lies on another grid than {first} ({reference}); resample it to that one first, for "
                    "instance in Slicer's module Resample Scalar/Vector/DWI Volume."
                ).format(**words)
        return ""

    def hide_overlays(self) -> None:
        """Keep the overlays, which are volumes too, out of the lists of volumes."""
        hidden = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if is_overlay(node)]
        for box in self.volumes:
            box.sortFilterProxyModel().hiddenNodeIDs = hidden

    def model_problem(self) -> str:
        """Return why the chosen model cannot be used; empty when it can as far as can be told without loading it."""
        source = self.model_source
        if not source:
            return _("No model is installed with this module; press Add and choose a model folder or file.")
        place = known_models().get(source, Path(source))
        if not place.exists() and str(place).partition(":")[0] not in formats():
            return _("The model {name} is no longer at {place}; add it again.").format(
                name=Path(source).name, place=place
            )
        if self.card() is None and place.is_file():
            return _("{name} does not say how its network is used; add it again with +, and say it there.").format(
                name=Path(source).name
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
        """Remember a model and choose it; any file within a model folder stands for the folder.

        One without a card goes through the form, which asks for what it does not say; then it is loaded once.
        """
        source = _folder_of(Path(path))
        if not self.has_card(path):
            self.form.open(str(source))
            if not self.form.fields.widgets:
                self.form.press()
            return
        self.form.close()
        self._settings.add_model(source)
        self.refill_models(str(source))
        self._on_model()

    def has_card(self, source: str) -> bool:
        """Whether a source says of itself how its network is used, without being loaded."""
        return card_of(str(_folder_of(Path(source)))) is not None

    def take_added(self, name: str) -> None:
        """Choose a model that was loaded once and is remembered under this name now."""
        self.form.close()
        self._cards.pop(name, None)
        self._digests.pop(name, None)
        self.refill_models(name)
        self._on_model()

    def name_for(self, source: str) -> str:
        """Return a name for a model that no other model has."""
        stem = Path(source).stem if Path(source).is_file() else Path(source).name or source
        kept = Library().models()
        taken = {name for name, entry in kept.items() if entry.path != str(Path(source).resolve())} | set(
            bundled_models()
        )
        names = [stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))]
        return next(name for name in names if name not in taken)

    def _on_add(self) -> None:
        if self.form.frame.isVisible():
            self.form.close()
            return
        self.form.open()
        self.ask_for_model()

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
        self.show_channels()
        if self.card_text.isVisible():
            self._write_card()
        self.changed.emit()


def describe_card(card: ModelCard | None, source: str, digest: str) -> str:
    """Return what a card says, for people."""
    if card is None:
        return _(
            "{source}\nA model without a card: nothing says its structures, voxel size and window. Add it with + and say them "
            "there.\nsha256 {digest}"
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
