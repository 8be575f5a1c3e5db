"""`import powermem`: the names of powermem_cli under the import name of the guide."""

from powermem_cli import *  # noqa: F403
from powermem_cli import __all__  # noqa: F401
