"""What explanation.json must hold beside what a test cares about."""

REST = {
    "settings": {"method": "gradient", "samples": 0},
    "device": "cpu",
    "messages": [],
    "timings": {"total_seconds": 1.0},
    "image": {"name": "ct.nii.gz", "path": "", "sha256": "0" * 64},
    "model": {
        "name": "small", "path": "", "sha256": "0" * 64, "spacing_mm": None, "intensity_range": [-1024, 1024],
        "window": [16, 16, 16], "overlap": 0.25, "blending": "gaussian",
    },
}  # fmt: skip


def complete(document, grid):
    """Return a document with the rest of the contract filled in; ``grid`` is the scan's own."""
    whole = {**document, "format": "agg2exp-explanation", "format_version": document.get("format_version", 1)}
    for part, values in REST.items():
        whole[part] = {**values, **whole.get(part, {})} if isinstance(values, dict) else whole.get(part, values)
    whole["image"] = {"shape": list(grid.shape), "affine": grid.affine.tolist(), **whole["image"]}
    return whole
