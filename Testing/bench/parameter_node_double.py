"""``slicer.parameterNodeWrapper``: annotated attributes that live in a parameter node, nodes as references."""

import json


def parameterNodeWrapper(cls):
    """Turn the annotations of a class into properties that read and write its parameter node."""
    for name, kind in cls.__annotations__.items():
        default = getattr(cls, name, None)
        setattr(cls, name, _reference(name) if _is_node(kind) else _value(name, kind, default))

    def begin(self, parameterNode):
        self.parameterNode = parameterNode

    cls.__init__ = begin
    return cls


def _is_node(kind):
    return getattr(kind, "__name__", "").startswith("vtkMRML")


def _reference(name):
    def read(self):
        return self.parameterNode.GetNodeReference(name)

    def write(self, node):
        self.parameterNode.SetNodeReferenceID(name, node.GetID() if node else None)

    return property(read, write)


def _value(name, kind, default):
    def read(self):
        text = self.parameterNode.GetParameter(name)
        return json.loads(text) if text else (default if default is not None else kind())

    def write(self, value):
        self.parameterNode.SetParameter(name, json.dumps(value))

    return property(read, write)
