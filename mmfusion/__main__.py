"""``python -m mmfusion``: the command line."""

from mmfusion.cli import main

if __name__ == "__main__":
    main()
