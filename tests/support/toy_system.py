"""A folder of toy services under the real names, for `deploy.local.up` to run instead of those."""

from pathlib import Path

import deploy

_SERVICE = '''
"""Says that it is ready, with its environment, so that a test sees what it was given."""
import json, os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())

    def log_message(self, *args):
        pass

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
HTTPServer(("127.0.0.1", int(os.environ["@PORT@"])), Handler).serve_forever()
'''


def make_toy_system(folder: Path) -> Path:
    """Lays out a folder to run `python -m deploy.local.up` in, and gives it back."""
    for package in ("shared", "shared/jetstream", "shared/postgres", "services"):
        (folder / package).mkdir()
        # A package proper hides the real one, wherever that is installed.
        (folder / package / "__init__.py").touch()
    (folder / "deploy").symlink_to(Path(deploy.__file__).parent, target_is_directory=True)
    for one_shot in ("shared/jetstream/bootstrap.py", "shared/postgres/migrate.py"):
        (folder / one_shot).write_text("print('toy: done')\n")
    for service in ("api", "dispatcher", "monitor", "notifier"):
        port = "API_PORT" if service == "api" else "HEALTH_PORT"
        (folder / "services" / f"{service}.py").write_text(_SERVICE.replace("@PORT@", port))
    return folder
