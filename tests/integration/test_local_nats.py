"""The embedded broker: durable, on the loopback interface, itself again after a crash."""

import nats as client
import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from deploy.local.nats import NatsCluster, NatsServer
from tests.support.eventually import eventually
from tests.support.servers import nats_cluster, nats_server


async def test_it_syncs_every_message_before_it_acknowledges_it(nats: NatsServer) -> None:
    assert nats.monitor("/jsz?config=true")["config"]["sync_always"] is True


async def test_a_weak_broker_can_be_had_to_test_that_it_is_refused() -> None:
    with nats_server(sync_interval=None) as weak:
        assert "sync_always" not in weak.monitor("/jsz?config=true")["config"]


async def test_it_listens_on_the_loopback_interface_alone(nats: NatsServer) -> None:
    variables = nats.monitor("/varz")
    assert (variables["host"], variables["http_host"]) == ("127.0.0.1", "127.0.0.1")
    assert variables["max_payload"] == 1024 * 1024


async def test_what_it_acknowledged_is_there_after_kill_9_and_its_address_is_the_same(
    nats: NatsServer,
) -> None:
    connection = await client.connect(nats.url)
    stream = connection.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", b"1")
    await connection.close()

    url = nats.url
    nats.kill()
    nats.start()

    assert nats.url == url
    connection = await client.connect(nats.url)
    assert (await connection.jetstream().get_msg("KEPT", 1)).data == b"1"
    await connection.close()


async def test_a_frozen_server_answers_nothing_until_it_goes_on(nats: NatsServer) -> None:
    nats.pause()
    assert not nats.is_healthy()
    nats.resume()
    await eventually(nats.is_healthy)


@pytest.mark.long
async def test_a_cluster_keeps_a_replicated_stream_when_its_leader_is_killed() -> None:
    with nats_cluster() as cluster:
        connection = await client.connect(cluster.urls, reconnect_time_wait=0.1, max_reconnect_attempts=-1)
        try:
            await _outlive_the_leader(cluster, connection.jetstream(timeout=10))
        finally:
            await connection.close()


async def _outlive_the_leader(cluster: NatsCluster, stream: JetStreamContext) -> None:
    async def created() -> bool:
        try:
            await stream.add_stream(name="KEPT", subjects=["kept"], num_replicas=3)
        except NatsError:
            return False  # nodes that have only just come up do not all know of one another
        return True

    async def stored() -> bool:
        try:
            await stream.publish("kept", b"1")
        except NatsError:
            return False  # the node that we talk to may not know of the stream's subjects yet
        return True

    await eventually(created, timeout=30)
    await eventually(stored, timeout=30)

    leader = await eventually(lambda: led_by(cluster))
    assert leader is not None
    leader.kill()

    async def kept() -> bytes | None:
        try:
            return (await stream.get_msg("KEPT", 1)).data
        except NatsError:
            return None  # the client may have been connected to the one that died

    await eventually(lambda: led_by(cluster) not in (None, leader), timeout=30)
    assert await eventually(kept, timeout=30) == b"1"

    leader.start()
    await eventually(leader.is_healthy)


def led_by(cluster: NatsCluster) -> NatsServer | None:
    try:
        return cluster.leader_of("KEPT")
    except LookupError:
        return None  # there is an election
