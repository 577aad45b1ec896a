"""What the bootstrap makes of an empty broker, and which brokers are refused."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, RetentionPolicy

from deploy.local.nats import NatsServer
from shared.jetstream.bootstrap import BrokerSettings, bootstrap, check_topology, verify
from shared.jetstream.connection import connect
from shared.jetstream.errors import TopologyDriftError, WeakBrokerError
from shared.jetstream.topology import (
    COMMANDS,
    CONSUMERS,
    DEAD,
    DISPATCHER_TIMERS,
    EVENTS,
    TopologySettings,
    streams,
)
from tests.support.servers import nats_cluster, nats_server

SETTINGS = TopologySettings()


def settings_for(server: NatsServer) -> BrokerSettings:
    return BrokerSettings(nats_url=server.url, monitor_url=server.monitor_url)


async def snapshot(nc: Client) -> dict[str, object]:
    """Every stream and consumer with its configuration and the time of its creation."""
    manager = nc.jsm()
    found: dict[str, object] = {}
    for info in await manager.streams_info():
        assert info.config.name
        found[info.config.name] = (info.config, info.created)
        for consumer in await manager.consumers_info(info.config.name):
            found[f"{info.config.name}/{consumer.name}"] = (consumer.config, consumer.created)
    return found


async def test_an_empty_broker_gets_everything_and_passes_the_check(nats: NatsServer, nc: Client) -> None:
    expected = {config.name for config in streams(SETTINGS)}
    expected |= {f"{spec.stream}/{spec.name}" for spec in CONSUMERS}
    assert set(await snapshot(nc)) == expected
    assert await verify(nc, settings_for(nats)) is True


async def test_the_log_can_neither_be_purged_nor_grow_old(nc: Client) -> None:
    config = (await nc.jsm().stream_info(EVENTS)).config
    assert config.retention == RetentionPolicy.LIMITS
    assert config.discard == DiscardPolicy.NEW
    assert config.deny_delete is True
    assert config.deny_purge is True
    assert config.allow_direct is True
    assert not config.max_age
    assert not config.allow_rollup_hdrs
    assert not config.allow_msg_ttl
    assert not config.allow_msg_schedules
    assert config.duplicate_window == 2 * 60 * 60
    assert config.max_bytes == SETTINGS.events_max_bytes


async def test_what_was_parked_is_not_parked_again_by_whoever_takes_over_within_a_day(nc: Client) -> None:
    assert (await nc.jsm().stream_info(DEAD)).config.duplicate_window == 24 * 60 * 60


async def test_twenty_bootstraps_at_once_change_nothing(nc: Client) -> None:
    before = await snapshot(nc)
    await asyncio.gather(*(bootstrap(nc, SETTINGS) for _ in range(20)))
    assert await snapshot(nc) == before


async def test_a_changed_setting_of_a_stream_is_named_and_then_put_right(nc: Client) -> None:
    config = (await nc.jsm().stream_info(COMMANDS)).config
    await nc.jsm().update_stream(replace(config, max_msgs=5))
    with pytest.raises(TopologyDriftError, match=r"stream COMMANDS .*max_msgs is 5"):
        await check_topology(nc, SETTINGS)
    await bootstrap(nc, SETTINGS)
    await check_topology(nc, SETTINGS)


async def test_a_changed_setting_of_a_consumer_is_named_and_then_put_right(nc: Client) -> None:
    changed = replace(DISPATCHER_TIMERS, max_ack_pending=7)
    await nc.jsm().add_consumer(changed.stream, changed.config(SETTINGS))
    with pytest.raises(TopologyDriftError, match=r"dispatcher-timers .*max_ack_pending is 7"):
        await check_topology(nc, SETTINGS)
    await bootstrap(nc, SETTINGS)
    await check_topology(nc, SETTINGS)


async def test_a_missing_stream_or_consumer_is_named(nc: Client) -> None:
    await nc.jsm().delete_consumer(DISPATCHER_TIMERS.stream, DISPATCHER_TIMERS.name)
    with pytest.raises(TopologyDriftError, match="consumer dispatcher-timers of TIMERS does not exist"):
        await check_topology(nc, SETTINGS)
    await nc.jsm().delete_stream(COMMANDS)
    with pytest.raises(TopologyDriftError, match="stream COMMANDS does not exist"):
        await check_topology(nc, SETTINGS)


async def test_what_cannot_be_changed_is_refused_with_the_brokers_reason(nc: Client) -> None:
    config = next(config for config in streams(SETTINGS) if config.name == COMMANDS)
    await nc.jsm().delete_stream(COMMANDS)
    await nc.jsm().add_stream(replace(config, retention=RetentionPolicy.LIMITS))
    with pytest.raises(TopologyDriftError, match=r"the broker refuses: .*retention"):
        await bootstrap(nc, SETTINGS)


async def test_a_broker_that_does_not_write_before_its_ack_is_refused() -> None:
    with nats_server(sync_interval=None) as server:
        nc = await connect(server.url, "test")
        with pytest.raises(WeakBrokerError, match="sync_interval: always"):
            await verify(nc, settings_for(server))
        await bootstrap(nc, SETTINGS)
        assert await verify(nc, replace(settings_for(server), allow_weak_durability=True)) is False
        await nc.close()


async def test_a_broker_that_stands_still_for_a_moment_is_not_taken_for_a_weak_one(
    nats: NatsServer, nc: Client
) -> None:
    nats.pause()
    verifying = asyncio.create_task(verify(nc, settings_for(nats)))
    await asyncio.sleep(2.5)
    nats.resume()
    assert await verifying is True


async def test_a_single_node_whose_monitoring_cannot_be_asked_is_refused(nats: NatsServer, nc: Client) -> None:
    settings = settings_for(nats)
    with pytest.raises(WeakBrokerError, match="NATS_MONITOR_URL is not set"):
        await verify(nc, replace(settings, monitor_url=None))
    with pytest.raises(WeakBrokerError, match="does not answer"):
        await verify(nc, replace(settings, monitor_url="http://127.0.0.1:1"))
    with pytest.raises(WeakBrokerError, match="does not answer"):  # the port of the broker itself
        await verify(nc, replace(settings, monitor_url=nats.url.replace("nats:", "http:")))


async def test_the_monitoring_of_another_server_proves_nothing(nc: Client, nats: NatsServer) -> None:
    with nats_server() as other:
        settings = replace(settings_for(nats), monitor_url=other.monitor_url)
        with pytest.raises(WeakBrokerError, match="another server"):
            await verify(nc, settings)


@pytest.mark.cluster
async def test_three_replicas_are_durable_without_being_asked() -> None:
    with nats_cluster() as cluster:
        nc = await connect(cluster.urls, "test", within=60)
        topology = TopologySettings(replicas=3)
        await bootstrap(nc, topology)
        assert await verify(nc, BrokerSettings(nats_url=cluster.urls[0], topology=topology)) is True
        with pytest.raises(TopologyDriftError, match="num_replicas is 3 instead of 1"):
            await check_topology(nc, SETTINGS)
        await nc.close()


def run_bootstrap(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shared.jetstream.bootstrap"],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_the_command_exits_0_when_all_is_as_declared(nats: NatsServer) -> None:
    environment = {"NATS_URL": nats.url, "NATS_MONITOR_URL": nats.monitor_url}
    for _ in range(2):
        done = await asyncio.to_thread(run_bootstrap, environment)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr


async def test_the_command_exits_1_on_a_weak_broker_and_waits_for_no_better_one() -> None:
    with nats_server(sync_interval=None) as server:
        environment = {"NATS_URL": server.url, "NATS_MONITOR_URL": server.monitor_url}
        began = time.monotonic()
        done = await asyncio.to_thread(run_bootstrap, environment)
        assert time.monotonic() - began < 25  # what does not answer is waited for longer
        assert done.returncode == 1
        assert "sync_interval: always" in done.stderr
        allowed = await asyncio.to_thread(run_bootstrap, {**environment, "ALLOW_WEAK_DURABILITY": "true"})
        assert allowed.returncode == 0


def test_the_command_exits_2_and_names_every_setting_that_is_wrong() -> None:
    wrong = {"NATS_REPLICAS": "many", "EVENTS_MAX_BYTES": "0", "ACK_WAIT_SECONDS": "inf"}
    done = run_bootstrap(wrong)
    assert done.returncode == 2
    assert {line.partition(":")[0].strip() for line in done.stderr.splitlines()[1:]} == {"NATS_URL", *wrong}
