"""Makes the source folder give way to the installed package.

From the root of the repository, `import vibetensor` finds the source folder first, which has no compiled
modules after a plain `pip install .`. The package then looks for the installed one further along
`sys.path` and puts that in its own place, so that `python -m bench`, `python -m vibetensor._gen` and the
tests run against what was installed.
"""

import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import module_from_spec

_COMPILED = "libvtcore.so"


def give_way(name):
    """Replace the package `name`, which is being imported, if it lies in a folder that was not built.

    Raises ImportError where no built package is installed either.
    """
    spec = sys.modules[name].__spec__
    # An editable install has a loader of its own, which knows where the compiled modules are.
    if type(spec.loader) is not SourceFileLoader:
        return
    folder = os.path.dirname(spec.origin)
    if os.path.exists(os.path.join(folder, _COMPILED)):
        return
    for entry in sys.path:
        if os.path.exists(os.path.join(entry, name, _COMPILED)):
            _replace(name, PathFinder.find_spec(name, [entry]))
            return
    raise ImportError(
        f"{name} is not built: {folder} is its source folder and no installed {name} was found; run "
        f"`pip install .` in {os.path.dirname(folder)} first",
        name=name,
    )


def _replace(name, spec):
    module = module_from_spec(spec)
    # The installed package brings its own copy of this module.
    ours = [key for key in sys.modules if key.startswith(name + ".")]
    kept = {key: sys.modules.pop(key) for key in [name, *ours]}
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.update(kept)
        raise
