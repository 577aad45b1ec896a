"""`python -m deploy.local.simulator`: the simulator alone, with its settings from the environment."""

import sys

from deploy.local.simulator.serve import serve

if __name__ == "__main__":
    sys.exit(serve())
