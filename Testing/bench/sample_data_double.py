"""``SampleData``: what extensions call of Slicer's module of that name, with its parameters and what it refuses."""

from types import SimpleNamespace

import slicer

titles = {}


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataCategory(category, title):
        titles[category] = title

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None,
                                       customDownloader=None, thumbnailFileName=None, loadFileTypes=None, loadFiles=None,
                                       loadFileProperties=None, checksums=None):  # fmt: skip
        told = (uris, fileNames, nodeNames, loadFileTypes)
        if not all(isinstance(one, str) for one in told):
            raise ValueError("All fields of sample data source must have the same length")
        found = SimpleNamespace(sampleName=sampleName, uris=[uris], fileNames=[fileNames], nodeNames=[nodeNames],
                                customDownloader=customDownloader, thumbnailFileName=thumbnailFileName,
                                loadFileTypes=[loadFileTypes], checksums=[checksums])  # fmt: skip
        # Category -> samples, where Slicer keeps them.
        there = vars(slicer.modules).setdefault("sampleDataSources", {}).setdefault(category, [])
        # Slicer compares them with all that they hold: the same function must be given again.
        if found not in there:
            there.append(found)
