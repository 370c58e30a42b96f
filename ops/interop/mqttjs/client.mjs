// Interop checks with mqtt.js: client.mjs HOST PORT 3.1.1|5. Prints `ok` or `FAIL` for each check.
import { randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import mqtt from "mqtt";

const [host, port, version] = process.argv.slice(2);
const name = `mqttjs/${version}`;
const run = randomBytes(4).toString("hex"); // fresh topics and client ids, so that a broker with old state does no harm
const WAIT = 10_000; // ms that a message may take
const QUIET = 1_000; // ms of silence that count as "nothing was sent"

function assert(condition, why) {
  if (!condition) throw new Error(why);
}

function within(ms, promise) {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, ms, undefined); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// One connection. Messages that come before anybody asks wait in a list: a kept session's arrive right after CONNACK.
class Client {
  messages = [];
  waiting = [];

  static async open(clientId, { keep = false, will } = {}) {
    const self = new Client();
    const v5 = version === "5";
    self.mqtt = mqtt.connect({
      host, port: Number(port), protocol: "mqtt", protocolVersion: v5 ? 5 : 4, clientId: `${run}-${clientId}`,
      clean: !keep, will, reconnectPeriod: 0, connectTimeout: WAIT,
      ...(v5 && keep ? { properties: { sessionExpiryInterval: 60 } } : {}),
    });
    self.mqtt.on("message", (topic, payload, { qos, retain }) => {
      const message = { topic, payload: payload.toString("latin1"), qos, retain };
      const taker = self.waiting.shift();
      if (taker) taker(message); else self.messages.push(message);
    });
    const connack = await within(WAIT, new Promise((resolve, reject) => {
      self.mqtt.once("connect", resolve);
      self.mqtt.once("error", reject);
      self.mqtt.once("close", () => reject(new Error("closed before CONNACK")));
    }));
    assert(connack, "no CONNACK");
    self.mqtt.on("error", () => {}); // a lost connection shows as a message that does not come
    self.sessionPresent = connack.sessionPresent;
    return self;
  }

  async subscribe(topic, qos) {
    const [granted] = await this.mqtt.subscribeAsync(topic, { qos });
    assert(granted.qos === qos, `SUBACK ${granted.qos}, not ${qos}`);
  }

  async publish(topic, payload, qos = 0, retain = false) {
    const done = this.mqtt.publishAsync(topic, Buffer.from(payload, "latin1"), { qos, retain }).then(() => true);
    assert(await within(WAIT, done), `QoS ${qos} publication was not acknowledged`);
  }

  next(ms) {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    let taker;
    const message = new Promise((resolve) => { taker = resolve; this.waiting.push(taker); });
    return within(ms, message).finally(() => { this.waiting = this.waiting.filter((other) => other !== taker); });
  }

  async expect(topic, payload, qos, retain = false) {
    const wanted = { topic, payload, qos, retain };
    const got = await this.next(WAIT);
    assert(isDeepStrictEqual(got, wanted), `received ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`);
  }

  async expectNothing() {
    const got = await this.next(QUIET);
    assert(!got, `received ${JSON.stringify(got)}, not nothing`);
  }

  close() { return this.mqtt.endAsync(); }

  // Closes the connection without a DISCONNECT packet.
  breakOff() { this.mqtt.stream.destroy(); }
}

async function roundTrip(qos) {
  const topic = `interop/${run}/qos${qos}`;
  const [subscriber, publisher] = [await Client.open("sub"), await Client.open("pub")];
  await subscriber.subscribe(topic, qos);
  for (let n = 0; n < 5; n++) await publisher.publish(topic, `\x00\xffround trip ${n}`, qos);
  for (let n = 0; n < 5; n++) await subscriber.expect(topic, `\x00\xffround trip ${n}`, qos);
  await subscriber.expectNothing();
  await Promise.all([subscriber.close(), publisher.close()]);
}

async function retained() {
  const topic = `interop/${run}/retained`;
  const publisher = await Client.open("pub");
  await publisher.publish(topic, "kept", 1, true);
  const later = await Client.open("later");
  await later.subscribe(topic, 1);
  await later.expect(topic, "kept", 1, true);
  await later.close();
  await publisher.publish(topic, "", 1, true);
  const last = await Client.open("last");
  await last.subscribe(topic, 1);
  await last.expectNothing();
  await Promise.all([last.close(), publisher.close()]);
}

async function will() {
  const topic = `interop/${run}/will`;
  const watcher = await Client.open("watcher");
  await watcher.subscribe(topic, 1);
  const polite = await Client.open("polite", { will: { topic, payload: "not to be sent", qos: 1 } });
  await polite.close();
  await watcher.expectNothing();
  const doomed = await Client.open("doomed", { will: { topic, payload: "gone", qos: 1 } });
  doomed.breakOff();
  await watcher.expect(topic, "gone", 1);
  await watcher.close();
}

async function session() {
  const topic = `interop/${run}/session`;
  let sleeper = await Client.open("sleeper", { keep: true });
  assert(!sleeper.sessionPresent, "a session was there already");
  await sleeper.subscribe(topic, 2);
  await sleeper.close();
  const publisher = await Client.open("pub");
  for (const qos of [1, 2]) await publisher.publish(topic, "while away", qos);
  sleeper = await Client.open("sleeper", { keep: true });
  assert(sleeper.sessionPresent, "the session was lost");
  for (const qos of [1, 2]) await sleeper.expect(topic, "while away", qos);
  await publisher.publish(topic, "after return", 1); // the subscription itself was kept, too
  await sleeper.expect(topic, "after return", 1);
  await Promise.all([sleeper.close(), publisher.close()]);
  const clean = await Client.open("sleeper");
  assert(!clean.sessionPresent, "a clean start found a session");
  await clean.close();
}

const checks = {
  qos0: () => roundTrip(0), qos1: () => roundTrip(1), qos2: () => roundTrip(2), retained, will, session,
};
let failed = 0;
for (const [check, body] of Object.entries(checks)) {
  try {
    await body();
    console.log(`ok ${name} ${check}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name} ${check}: ${error.message}`);
  }
}
process.exit(failed ? 1 : 0); // at once: a failed check may have left connections open
