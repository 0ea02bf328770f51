"""The search for an architecture: optimal subarchitecture extraction (arXiv 2010.08512, 2010.10499).

`search` is the algorithm, which knows nothing of networks. The modules beside it make it work on encoders and text.
"""

from bort.ose.algorithm import search
from bort.ose.criteria import Cost, coefficient
from bort.ose.ordering import Bound
from bort.ose.space import SPACES, SearchSpace, Shape

__all__ = ["SPACES", "Bound", "Cost", "SearchSpace", "Shape", "coefficient", "search"]
