"""The tests of training share one small cohort and model, see tiny.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
