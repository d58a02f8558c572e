"""`python -m mmmed` is the command `mmmed`."""

from mmmed.cli import main

if __name__ == "__main__":
    main()
