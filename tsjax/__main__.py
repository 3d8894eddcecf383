"""`python -m tsjax`."""

import sys

from tsjax import main

if __name__ == "__main__":
  sys.exit(main.main())
