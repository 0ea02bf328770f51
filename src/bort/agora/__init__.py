"""Fine-tuning with scarce labels: training data that grow from the model's own mistakes (arXiv 2010.07990).

`fit` is the algorithm, which knows nothing of texts or networks. The modules beside it make it work on texts.
"""

from bort.agora.loop import Learner, Source, fit

__all__ = ["Learner", "Source", "fit"]
