"""``slicer.parameterNodeWrapper``: annotated attributes that live in a parameter node, nodes as references, bound to widgets."""

import json
import typing
from enum import Enum


class WithinRange:
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


class Choice:
    def __init__(self, choices):
        self.choices = choices

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value} is none of {self.choices}")


def parameterNodeWrapper(cls):
    """Turn the annotations of a class into properties that read and write its parameter node."""
    kinds = typing.get_type_hints(cls, include_extras=True)
    cls.allParameters = {name: _Field(name, kind, getattr(cls, name, None)) for name, kind in kinds.items()}
    for name, field in cls.allParameters.items():
        setattr(cls, name, property(field.read, field.write))
    for method in (connectGui, disconnectGui):
        setattr(cls, method.__name__, method)
    for method in ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified"):
        setattr(cls, method, _handed_on(method))
    cls.__init__ = _begin
    return cls


class _Field:
    def __init__(self, name, kind, default):
        self.name, self.default = name, default
        self.validators = getattr(kind, "__metadata__", ())
        self.kind = typing.get_args(kind)[0] if self.validators else kind
        self.is_node = getattr(self.kind, "__name__", "").startswith("vtkMRML")
        self.is_enum = isinstance(self.kind, type) and issubclass(self.kind, Enum)

    def read(self, owner):
        if self.is_node:
            return owner.parameterNode.GetNodeReference(self.name)
        text = owner.parameterNode.GetParameter(self.name)
        if not text:
            return self.default if self.default is not None else self.kind()
        found = json.loads(text)
        return self.kind[found] if self.is_enum else self.kind(found)

    def write(self, owner, value):
        if self.is_node:
            owner.parameterNode.SetNodeReferenceID(self.name, value.GetID() if value else None)
            return
        for validator in self.validators:
            validator.validate(value)
        owner.parameterNode.SetParameter(self.name, json.dumps(value.name if self.is_enum else value))


def _begin(self, parameterNode):
    self.parameterNode, self._bound, self._showing = parameterNode, {}, False
    for field in self.allParameters.values():
        # A text that is no value of its kind is told here, as by the real one.
        field.read(self)


def _handed_on(method):
    return lambda self, *given: getattr(self.parameterNode, method)(*given)


def connectGui(self, ui):
    """Bind every widget that names a parameter."""
    links = [
        _Link(self, widget, self.allParameters[widget.property("SlicerParameterName")])
        for widget in vars(ui).values()
        if widget.property("SlicerParameterName")
    ]
    for link in links:
        link.show()
        link.signal.connect(link.take)
    tag = self.AddObserver("ModifiedEvent", lambda *_: _show(self, links))
    self._bound[tag] = links
    return tag


def disconnectGui(self, tag):
    """Unbind."""
    self.RemoveObserver(tag)
    for link in self._bound.pop(tag):
        link.signal.disconnect(link.take)


def _show(self, links):
    if not self._showing:
        self._showing = True
        for link in links:
            link.show()
        self._showing = False


class _Link:
    """One widget and one field."""

    SIGNALS = ("currentNodeChanged", "currentIndexChanged", "toggled", "valueChanged")

    def __init__(self, owner, widget, field):
        self.owner, self.widget, self.field = owner, widget, field
        name = next(name for name in self.SIGNALS if hasattr(widget, name))
        self.signal = getattr(widget, name)
        for limits in (one for one in field.validators if isinstance(one, WithinRange)):
            widget.setProperty("minimum", limits.minimum)
            widget.setProperty("maximum", limits.maximum)
        if field.is_enum:
            self.members = list(field.kind)
            widget.clear()
            widget.addItems([one.label() for one in self.members])
        self.name = "checked" if name == "toggled" else "value"

    def show(self):
        value = self.field.read(self.owner)
        if self.field.is_node:
            self.widget.setCurrentNode(value)
        elif self.field.is_enum:
            self.widget.setCurrentIndex(self.members.index(value))
        else:
            self.widget.setProperty(self.name, value)

    def take(self, *_):
        if self.owner._showing:
            return
        if self.field.is_node:
            value = self.widget.currentNode()
        elif self.field.is_enum:
            value = self.members[self.widget.currentIndex()]
        else:
            value = self.widget.property(self.name)
        self.field.write(self.owner, value)
