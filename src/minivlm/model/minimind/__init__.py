"""The original's checkpoints (MiniMind, MiniMind-V of the CLIP era), read and written exactly.

`read_llm` gives the language model of any of them, `import_checkpoint` a standard LLaVA directory,
`export_checkpoint` the way back. A `.pth` file plus a CLIP directory → a directory → the same `.pth` file.
"""

from minivlm.model.minimind.exporting import export_checkpoint
from minivlm.model.minimind.importing import Imported, import_checkpoint
from minivlm.model.minimind.language import read_llm

__all__ = ["Imported", "export_checkpoint", "import_checkpoint", "read_llm"]
