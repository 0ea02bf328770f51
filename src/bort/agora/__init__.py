"""Agora: fine-tuning with few labels, on training data that grow near the model's mistakes (arXiv 2010.07990).

`fit` is the algorithm, independent of texts and networks. The other modules apply it to texts.
"""

from bort.agora.loop import Learner, Source, fit

__all__ = ["Learner", "Source", "fit"]
