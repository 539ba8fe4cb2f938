"""``slicer.packaging``: the check is real, installing is written down instead of done."""

import importlib.metadata
import re

installed_requests = []
failure = None
hidden = set()


def pip_check(req):
    return all(_present(one) for one in ([req] if isinstance(req, str) else req))


def pip_ensure(requirements, requester=None, skip_packages=None, skip_in_testing=True, **others):
    installed_requests.append((list(requirements), requester, list(skip_packages or ())))
    if failure:
        raise failure
    hidden.clear()


def _present(requirement):
    name = re.match(r"[\w.-]+", requirement)[0]
    if name.lower() in hidden:
        return False
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
