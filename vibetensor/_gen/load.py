"""Loads the operator table by path, so that the library need not be built to build it."""
import importlib.util
import pathlib
import sys

PACKAGE = pathlib.Path(__file__).resolve().parent.parent


def load():
    """The `opdefs` package with every family loaded."""
    name = "vibetensor_opdefs"
    if name in sys.modules:
        return sys.modules[name]
    folder = PACKAGE / "opdefs"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    for family in module.FAMILIES:
        importlib.import_module(f"{name}.{family}")
    importlib.import_module(f"{name}.autocast")
    return module
