# Type checkers read the public names here: they follow no list that is put together when it runs.
from . import nn as nn
from .nn import *  # noqa: F403  every public name is one of nn, as here
from .version import __version__ as __version__
