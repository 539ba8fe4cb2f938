"""Formats of models, one file each; :mod:`Agg2ExpLib.models.registry` asks them."""
