"""The games of KernelSHAP and occlusion: supervoxels, masked scans, value functions, Shapley values."""
