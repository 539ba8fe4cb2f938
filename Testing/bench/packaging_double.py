"""``slicer.packaging``: the check is real; nothing is installed."""

import importlib.metadata
import re


def pip_check(req):
    return all(_present(one) for one in ([req] if isinstance(req, str) else req))


def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True,
               requester=None, skip_in_testing=True, show_progress=True):  # fmt: skip
    raise AssertionError("a test would have changed this Python")


def _present(requirement):
    name, _, marker = requirement.partition(";")
    if marker:
        return True
    try:
        importlib.metadata.version(re.match(r"[\w.-]+", name)[0])
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
