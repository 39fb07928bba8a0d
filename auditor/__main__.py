"""`python -m auditor` is `repro-audit`."""

from auditor.cli import main

if __name__ == "__main__":
    main()
