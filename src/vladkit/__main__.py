"""``python -m vladkit``."""

from vladkit.cli import main

if __name__ == "__main__":
    main()
