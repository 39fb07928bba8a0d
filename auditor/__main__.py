"""`python -m auditor` is `repro-audit`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python looks for modules in the working directory first: a `yaml.py` beside the script is not for us.
    if not getattr(sys.flags, "safe_path", False) and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
        del sys.path[0]
    from auditor.cli import main

    main()
