"""Interop checks with paho-mqtt for Python: client.py HOST PORT 3.1.1|5. Prints `ok` or `FAIL` for each check."""
import queue
import secrets
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST, PORT, VERSION = sys.argv[1], int(sys.argv[2]), sys.argv[3]
NAME = f"paho-python/{VERSION}"
RUN = secrets.token_hex(4)  # fresh topics and client ids, so that a broker with old state does no harm
WAIT = 10  # seconds that a message may take
QUIET = 1  # seconds of silence that count as "nothing was sent"


class Client:
    """One connection; received messages and acknowledgements wait in queues."""

    def __init__(self, client_id, keep_session=False, will=None):
        v5 = VERSION == "5"
        self.messages, self.connacks, self.subacks = queue.Queue(), queue.Queue(), queue.Queue()
        clean = None if v5 else not keep_session
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"{RUN}-{client_id}", clean_session=clean,
                                protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311, reconnect_on_failure=False)
        self.mqtt.on_connect = lambda _c, _u, flags, reason, _p: self.connacks.put((flags, reason))
        self.mqtt.on_message = lambda _c, _u, message: self.messages.put(message)
        self.mqtt.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.subacks.put(reasons)
        if will:
            self.mqtt.will_set(*will)
        options = {}
        if v5:
            options = {"clean_start": not keep_session, "properties": Properties(PacketTypes.CONNECT)}
            if keep_session:
                options["properties"].SessionExpiryInterval = 60
        self.mqtt.connect(HOST, PORT, keepalive=30, **options)
        self.mqtt.loop_start()
        flags, reason = self.connacks.get(timeout=WAIT)
        assert not reason.is_failure, f"CONNACK {reason}"
        self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        self.mqtt.subscribe(topic, qos)
        granted = [reason.value for reason in self.subacks.get(timeout=WAIT)]
        assert granted == [qos], f"SUBACK {granted}, not [{qos}]"

    def publish(self, topic, payload, qos=0, retain=False):
        publication = self.mqtt.publish(topic, payload, qos, retain)
        publication.wait_for_publish(WAIT)
        assert publication.is_published(), f"QoS {qos} publication was not acknowledged"

    def expect(self, topic, payload, qos, retain=False):
        try:
            got = self.messages.get(timeout=WAIT)
        except queue.Empty:
            raise AssertionError(f"not received: {topic} {payload!r}") from None
        got = (got.topic, got.payload, got.qos, got.retain)
        assert got == (topic, payload, qos, retain), f"received {got}, not {(topic, payload, qos, retain)}"

    def expect_nothing(self):
        try:
            message = self.messages.get(timeout=QUIET)
        except queue.Empty:
            return
        raise AssertionError(f"received {message.topic} {message.payload!r}, not nothing")

    def close(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def break_off(self):
        """Closes the connection without a DISCONNECT packet."""
        self.mqtt.socket().shutdown(socket.SHUT_RDWR)
        self.mqtt.loop_stop()


def round_trip(qos):
    topic, payload = f"interop/{RUN}/qos{qos}", b"\x00\xffround trip"
    subscriber, publisher = Client("sub"), Client("pub")
    subscriber.subscribe(topic, qos)
    for n in range(5):
        publisher.publish(topic, payload + bytes([n]), qos)
    for n in range(5):
        subscriber.expect(topic, payload + bytes([n]), qos)
    subscriber.expect_nothing()
    subscriber.close()
    publisher.close()


def retained():
    topic = f"interop/{RUN}/retained"
    publisher = Client("pub")
    publisher.publish(topic, b"kept", 1, retain=True)
    later = Client("later")
    later.subscribe(topic, 1)
    later.expect(topic, b"kept", 1, retain=True)
    later.close()
    publisher.publish(topic, b"", 1, retain=True)
    last = Client("last")
    last.subscribe(topic, 1)
    last.expect_nothing()
    last.close()
    publisher.close()


def will():
    topic = f"interop/{RUN}/will"
    watcher = Client("watcher")
    watcher.subscribe(topic, 1)
    Client("polite", will=(topic, b"not to be sent", 1)).close()
    watcher.expect_nothing()
    Client("doomed", will=(topic, b"gone", 1)).break_off()
    watcher.expect(topic, b"gone", 1)
    watcher.close()


def session():
    topic = f"interop/{RUN}/session"
    sleeper = Client("sleeper", keep_session=True)
    assert not sleeper.session_present, "a session was there already"
    sleeper.subscribe(topic, 2)
    sleeper.close()
    publisher = Client("pub")
    for qos in (1, 2):
        publisher.publish(topic, b"while away", qos)
    sleeper = Client("sleeper", keep_session=True)
    assert sleeper.session_present, "the session was lost"
    for qos in (1, 2):
        sleeper.expect(topic, b"while away", qos)
    publisher.publish(topic, b"after return", 1)  # the subscription itself was kept, too
    sleeper.expect(topic, b"after return", 1)
    sleeper.close()
    publisher.close()
    clean = Client("sleeper")
    assert not clean.session_present, "a clean start found a session"
    clean.close()


CHECKS = {"qos0": lambda: round_trip(0), "qos1": lambda: round_trip(1), "qos2": lambda: round_trip(2),
          "retained": retained, "will": will, "session": session}
failed = 0
for check, body in CHECKS.items():
    try:
        body()
        print(f"ok {NAME} {check}", flush=True)
    except Exception as error:
        failed += 1
        print(f"FAIL {NAME} {check}: {str(error) or type(error).__name__}", flush=True)
sys.exit(1 if failed else 0)
