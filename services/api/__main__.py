"""`python -m services.api`: the REST service."""

from services.api.app import build
from services.api.settings import ApiSettings
from shared.process import run

if __name__ == "__main__":
    run("api", ApiSettings, build)
