"""Make multimodal-reasoning training data: say what set you want, build it, release it, prove it."""

from omr_data.identity import PLACE, Spec

__version__ = "0.1.0"
__all__ = ["PLACE", "Spec", "__version__"]
