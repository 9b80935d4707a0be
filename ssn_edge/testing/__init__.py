"""For tests of your own line: a detector that answers what you say, and a real model of a few hundred bytes.

>>> import numpy as np
>>> from ssn_edge.testing import fake_detector
>>> detector = fake_detector(lambda image: (image.max() / 255, 0.0))   # score, anomaly map
>>> dark, bright = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
>>> detector.detect(dark).is_defect, detector.detect(bright).is_defect
(False, True)
"""

from ssn_edge.testing.fake import fake_detector
from ssn_edge.testing.tiny import tiny_info, tiny_model, write_tiny_model

__all__ = ["fake_detector", "tiny_info", "tiny_model", "write_tiny_model"]
