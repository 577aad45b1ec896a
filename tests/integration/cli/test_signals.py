"""A process that is told to end: in order the first time, at once the second."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio
from deploy.local.signals import StopOnSignal

async def main():
    stop = asyncio.Event()
    with StopOnSignal(stop) as signals:
        print("up", flush=True)
        await stop.wait()
        try:
            print(signals.number.name, flush=True)
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_does_not_wait_for_the_clean_up(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(number)
            assert process.stdout.readline() == f"{number.name}\n"
            process.send_signal(number)
            assert process.wait(30) == -number
        finally:
            process.kill()
