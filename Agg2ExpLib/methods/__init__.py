"""Attribution methods: one frozen dataclass a file, whose fields are its options. Listing them needs no torch.

Examples
--------
>>> from Agg2ExpLib.methods import METHODS, SmoothGrad
>>> sorted(METHODS)
['gradcam', 'gradient', 'integrated-gradients', 'kernelshap', 'occlusion', 'smoothgrad']
>>> [one.name for one in SmoothGrad.options()]
['samples', 'sigma', 'seed']
"""

from __future__ import annotations

from Agg2ExpLib.methods.base import METHODS, Context, Method, Option, method_of, option, register

# In the order in which they are listed.
# isort: off
from Agg2ExpLib.methods.gradient import Gradient
from Agg2ExpLib.methods.smoothgrad import SmoothGrad
from Agg2ExpLib.methods.integrated_gradients import IntegratedGradients
from Agg2ExpLib.methods.removal import RemovalMethod
from Agg2ExpLib.methods.kernelshap import KernelSHAP
from Agg2ExpLib.methods.occlusion import Occlusion
from Agg2ExpLib.methods.gradcam import GradCAM
# isort: on

__all__ = [
    "METHODS",
    "Context",
    "GradCAM",
    "Gradient",
    "IntegratedGradients",
    "KernelSHAP",
    "Method",
    "Occlusion",
    "Option",
    "RemovalMethod",
    "SmoothGrad",
    "method_of",
    "option",
    "register",
]
