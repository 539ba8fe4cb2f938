"""Offers the bench to every test, so that modules that import Slicer's Qt side can be imported without Slicer."""

from Testing import bench

bench.offer()

pytest_plugins = ["Testing.bench.fixtures"]
