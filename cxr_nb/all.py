from .phantom import *
from .film import *
from .data import *
from .evaluate import *
from .classifier import *
from .run import *
