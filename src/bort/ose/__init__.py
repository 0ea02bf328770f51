"""Architecture search: optimal subarchitecture extraction (arXiv 2010.08512, 2010.10499).

`search` is the algorithm, independent of neural networks. The other modules apply it to encoders and text.
"""

from bort.ose.algorithm import search
from bort.ose.criteria import Cost, coefficient
from bort.ose.ordering import Bound
from bort.ose.space import SPACES, SearchSpace, Shape

__all__ = ["SPACES", "Bound", "Cost", "SearchSpace", "Shape", "coefficient", "search"]
