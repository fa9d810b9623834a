"""The seven stage commands.

Under `dvc exp run --temp` a stage must run the code of its own checkout, not that of an editable install: the
`src/` beside this package goes first on the path.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
