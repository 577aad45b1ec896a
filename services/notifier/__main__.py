"""`python -m services.notifier` runs the service; its settings are environment variables."""

from services.notifier.app import build
from services.notifier.settings import NotifierSettings
from shared.process import run

if __name__ == "__main__":
    run("notifier", NotifierSettings, build)
